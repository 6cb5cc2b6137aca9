"""Answer when a task has changed: ``?wait=25``."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Response, request

from api.auth import caller
from api.extensions import attached
from api.live.client import Client
from api.live.subscription import Watcher
from api.refusals import TokenRefused
from pipeline.store.tasks import TaskRow

LONGEST_WAIT_SECONDS = 30
_LOOK_SECONDS = 1.0


def answer_when_changed(
    find: Callable[[], TaskRow], answer: Callable[[TaskRow], Response], *, wait_seconds: int, since: str | None
) -> Response:
    """Answer with a task as soon as the answer differs from what the client knows, or after so many seconds.

    What it knows is the ETag in ``If-None-Match`` or in ``since``; without one, what would be answered now. A task that
    has ended is answered at once: nothing more will happen to it. No database session is held while we wait.

    Args:
        find: Reads the task.
        answer: Makes the answer.
        wait_seconds: 0 is for an answer at once.
        since: An ETag, with or without its quotes.

    Raises:
        TooManyStreams: As many watch as may.
        TokenRefused: What the client has shown has ended meanwhile.
    """
    row = find()
    response = _tagged(answer(row))
    known = since or response.get_etag()[0]
    if wait_seconds and not row.state.is_final and not _is_new(response, known, since):
        response = _wait(row, response, lambda: _tagged(answer(find())), wait_seconds, since)
    response.make_conditional(request)  # changes it
    return response


def _wait(
    row: TaskRow, response: Response, answer: Callable[[], Response], wait_seconds: int, since: str | None
) -> Response:
    live, client = attached().live, Client(request.environ)
    watcher = Watcher(row.id, credential=caller().credential)
    known, until = response.get_etag()[0], time.monotonic() + wait_seconds
    with live.joined(watcher):
        while (left := until - time.monotonic()) > 0 and not live.is_closing and not client.has_left:
            event = watcher.take(min(left, _LOOK_SECONDS))
            if watcher.is_refused:
                raise TokenRefused("This has ended while you waited")
            if event is not None and event.is_state:
                response = answer()
                if event.is_last or _is_new(response, known, since):
                    break
    return response


def _tagged(response: Response) -> Response:
    response.add_etag()
    return response


def _is_new(response: Response, known: str | None, since: str | None) -> bool:
    """Tell whether an answer is none that the client knows; without a word of it, none that was ``known``."""
    etag = response.get_etag()[0] or ""
    if since is not None:
        return etag != since.removeprefix("W/").strip('"')
    if request.if_none_match:
        return not request.if_none_match.contains_weak(etag)
    return etag != known
