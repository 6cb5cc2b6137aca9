"""What happens, as it does: server-sent events."""

from __future__ import annotations

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from api.live.changes import Position
from api.live.snapshots import Snapshot
from api.live.stream import stream
from api.live.subscription import Follower, Watcher
from api.scopes import Scope, needs
from pipeline import TaskNotFound
from pipeline.runtime import ask
from pipeline.store import tasks

blueprint = Blueprint("events", __name__, url_prefix="/api/v1")


@blueprint.get("/events")
@needs(Scope.READ)
def follow_everything() -> ResponseReturnValue:
    """Follow what waits, runs and ends, in sum, and the tasks that change, up to a bound."""
    seen = _last_event_id()
    position = Position.parse(seen) if seen else None
    return stream(Follower(position, lost="unknown id" if seen and position is None else ""))


@blueprint.get("/tasks/<task_id>/events")
@needs(Scope.READ)
def watch_task(task_id: str) -> ResponseReturnValue:
    """Watch one task until it has ended."""
    known = tasks.as_task_id(task_id)
    row = ask(tasks.status, known) if known else None
    if row is None:
        raise TaskNotFound(task_id)
    seen = _last_event_id()
    if row.state.is_final and Snapshot(row).version == seen:
        return Response(status=204)  # which alone keeps an EventSource from connecting again
    return stream(Watcher(row.id, seen))


def _last_event_id() -> str | None:
    """Read the id of the last event that the client has seen. A page that is loaded anew cannot send the header."""
    return request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or None
