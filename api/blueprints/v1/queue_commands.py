"""Commands on queues. They hold from the next claim of each worker on; what runs goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from flask import Response

from api.acting import act, by, check_seen
from api.answers import answer_json
from api.blueprints.v1.queues import answer_queue
from api.endpoints import Endpoints
from api.problems import Responses, problems
from api.scopes import Scope, needs
from api.shapes.commands import ChangeQueue, Pause, Reason
from api.shapes.queues import Counting, Flushed, Queue, QueuePath
from pipeline import QueueUnknown
from pipeline.commands.gates import limit_queue, weigh_queue
from pipeline.commands.queues import pause_queue as pause_in_store
from pipeline.commands.queues import resume_queue as resume_in_store
from pipeline.commands.tasks import check_queue
from pipeline.store import queues, tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

blueprint = Endpoints("queues", __name__)

_REFUSED: Responses = problems(404, 412, 415, 422)
_CHANGED: Responses = {200: Queue, **_REFUSED}
#: Millions may wait in a queue.
_FLUSH_SECONDS = 25


@blueprint.post("/<queue>/pause", responses=_CHANGED)
@needs(Scope.OPERATE)
def pause_queue(path: QueuePath, body: Pause) -> Response:
    """Let nothing be claimed from a queue, for a while or until it is resumed.

    Pausing it again changes who, why and until when.
    """
    return _change(path, partial(pause_in_store, queue=path.queue, by=by(body), resume_after=body.resume_after))


@blueprint.post("/<queue>/resume", responses=_CHANGED)
@needs(Scope.OPERATE)
def resume_queue(path: QueuePath, body: Reason) -> Response:
    """Let tasks of a queue be claimed again. One that is not paused stays as it is."""
    return _change(path, partial(resume_in_store, queue=path.queue, by=by(body)))


@blueprint.patch("/<queue>", responses=_CHANGED)
@needs(Scope.OPERATE)
def change_queue(path: QueuePath, body: ChangeQueue) -> Response:
    """Change how many tasks of a queue may run at a time, and how often it comes first."""

    def change(sql: Mapping[str, str], cursor: Cursor) -> None:
        given = body.given
        if "max_running" in given:
            limit_queue(sql, cursor, path.queue, body.max_running, by=by(body))
        if "weight" in given:
            weigh_queue(sql, cursor, path.queue, body.weight, by=by(body))

    return _change(path, change)


@blueprint.post("/<queue>/flush", responses={200: Flushed, **_REFUSED})
@needs(Scope.ADMIN)
def flush_queue(path: QueuePath, body: Reason) -> Response:
    """Cancel all that waits in a queue, due or not. What runs goes on."""

    def flush(sql: Mapping[str, str], cursor: Cursor) -> int:
        _check_seen(sql, cursor, path.queue)
        check_queue(sql, cursor, path.queue)
        return tasks.flush(sql, cursor, path.queue, by(body))

    cancelled = act(flush, seconds=_FLUSH_SECONDS)
    return answer_json(Flushed(queue=path.queue, cancelled=cancelled).model_dump())


def _change(path: QueuePath, command: Callable[[Mapping[str, str], Cursor], None]) -> Response:
    """Change a queue, if it is as the client has seen it, and answer with what it is then."""

    def deed(sql: Mapping[str, str], cursor: Cursor) -> Queue:
        _check_seen(sql, cursor, path.queue)
        command(sql, cursor)
        return _read(sql, cursor, path.queue)

    return answer_queue(act(deed))


def _check_seen(sql: Mapping[str, str], cursor: Cursor, queue: str) -> None:
    def seen() -> Response:
        queues.hold(sql, cursor, queue)
        return answer_queue(_read(sql, cursor, queue))

    check_seen(seen)


def _read(sql: Mapping[str, str], cursor: Cursor, queue: str) -> Queue:
    rows = queues.depths(sql, cursor, queue=queue, limit=1, most=Counting().most)
    if not rows:
        raise QueueUnknown(queue)
    return Queue.model_validate(rows[0])
