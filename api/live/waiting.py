"""Answer when a task has changed: ``?wait=25``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from flask import Response, abort, request

from api.live.client import Client
from api.live.live import current_live
from api.live.subscription import Watcher
from pipeline.store.tasks import TaskRow

LONGEST_WAIT_SECONDS = 30
_LOOK_SECONDS = 1.0


def read_wait() -> int:
    """Read ``?wait=``: for how many seconds the answer may be waited for; 0: it is not."""
    text = request.args.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > LONGEST_WAIT_SECONDS:
        abort(400, f"wait is a number of seconds from 0 to {LONGEST_WAIT_SECONDS}")
    return int(text)


def answer_when_changed(row: TaskRow, answer: Callable[[TaskRow], Response], wait: int) -> Response:
    """Answer with a task as soon as the answer differs from what the client knows, or after so many seconds.

    What it knows is the ETag in ``If-None-Match`` or ``?since=``; without one, what would be answered now. A task that
    has ended is answered at once: nothing more will happen to it.

    Args:
        row: The task as it is now.
        answer: Makes the answer.
        wait: How many seconds; 0 is for an answer at once.

    Raises:
        TooManyStreams: As many watch as may.
    """
    response = _tagged(answer(row))
    if wait and not row.state.is_final and not _is_new(response, known=response.get_etag()[0]):
        response = _wait(row, response, answer, wait)
    return response.make_conditional(request)


def _wait(row: TaskRow, response: Response, answer: Callable[[TaskRow], Response], wait: int) -> Response:
    live, client, watcher = current_live(), Client(request.environ), Watcher(row.id)
    known, until = response.get_etag()[0], time.monotonic() + wait
    with live.joined(watcher):
        while (left := until - time.monotonic()) > 0 and not live.is_closing and not client.has_left:
            event = watcher.take(min(left, _LOOK_SECONDS))
            if event is None or event.row is None:
                continue
            response = _tagged(answer(event.row))
            if event.is_last or _is_new(response, known):
                break
    return response


def _tagged(response: Response) -> Response:
    response.add_etag()
    return response


def _is_new(response: Response, known: str | None) -> bool:
    """Tell whether an answer is none that the client knows; without a word of it, none that was ``known``."""
    etag = response.get_etag()[0] or ""
    since = request.args.get("since")
    if since is not None:
        return etag != since.removeprefix("W/").strip('"')
    if request.if_none_match:
        return not request.if_none_match.contains_weak(etag)
    return etag != known
