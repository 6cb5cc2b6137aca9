"""Tasks."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from api.auth import who
from api.pagination import read_cursor, read_limit
from api.visibility import visible
from pipeline import TaskNotFound, cancel
from pipeline.runtime import ask
from pipeline.states import TaskState
from pipeline.store import status
from pipeline.store.tasks import as_task_id
from pipeline.task_queue import as_status, get_task_status

blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")


@blueprint.get("/")
def list_tasks() -> ResponseReturnValue:
    """List tasks, newest first: those that wait or run, or those in the states that were asked for."""
    limit = read_limit()
    rows = ask(status.find, _filters(), before=read_cursor(), limit=limit + 1)
    page = rows[:limit]
    next_cursor = page[-1].task_id if len(rows) > limit else None
    return {"tasks": [visible(as_status(row)) for row in page], "next_cursor": next_cursor}


@blueprint.get("/<task_id>/status/")
def show_status(task_id: str) -> ResponseReturnValue:
    """Show one task."""
    return _known_status(task_id)


@blueprint.post("/<task_id>/cancel/")
def cancel_task(task_id: str) -> ResponseReturnValue:
    """Cancel a task that waits, or ask a running one to end. ``{"reason": "…", "force": true}`` may say why and how."""
    state = cancel(task_id, who=who(), reason=_reason(), force=_force())
    return _known_status(task_id), HTTPStatus.OK if state is TaskState.CANCELLED else HTTPStatus.ACCEPTED


def _known_status(task_id: str) -> dict[str, Any]:
    found = get_task_status(task_id)
    if found is None:
        raise TaskNotFound(task_id)
    return visible(found)


def _filters() -> status.Filters:
    """Read which tasks are meant."""
    given = {name: request.args.get(name) for name in ("actor", "queue", "tag", "entity", "tenant", "correlation_id")}
    if any(text is not None and "\0" in text for text in given.values()):
        abort(400, "a filter holds a NUL character")
    parent = request.args.get("parent")
    if parent is not None and (parent := as_task_id(parent)) is None:
        abort(400, "parent is the id of a task")
    return status.Filters(_wanted_states(), **given, parent=parent)


def _wanted_states() -> Collection[TaskState] | None:
    """Read ``?state=failed&state=running``, ``?state=failed,running`` or ``?state=all``."""
    words = {word for text in request.args.getlist("state") for word in text.split(",") if word}
    if not words:
        return status.ACTIVE_STATES
    if "all" in words:
        return None
    if unknown := words - set(TaskState):
        abort(400, f"state is all or some of {', '.join(TaskState)}; not {', '.join(sorted(unknown))}")
    return {TaskState(word) for word in words}


def _reason() -> str:
    reason = _asked().get("reason", "")
    if not isinstance(reason, str) or "\0" in reason:
        abort(400, "reason is a text")
    return reason


def _force() -> bool:
    force = _asked().get("force", False)
    if not isinstance(force, bool):
        abort(400, "force is true or false")
    return force


def _asked() -> dict[str, Any]:
    body = request.get_json(silent=True)
    return body if isinstance(body, dict) else {}
