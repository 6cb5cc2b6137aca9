"""Tasks, as code written before this task queue asked for them. What is new has its place in the REST API (``v1``)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response, abort, request

from api.acting import act
from api.answers import answer_json
from api.auth import who
from api.endpoints import Routes
from api.live.waiting import LONGEST_WAIT_SECONDS, answer_when_changed
from api.pagination import read_cursor, read_limit
from api.reading import read
from api.shapes.commands import Cancel
from api.visibility import visible
from pipeline import TaskNotFound
from pipeline.commands.cancel import cancel_task as cancel_in_store
from pipeline.states import TaskState
from pipeline.store import status, tasks
from pipeline.store.audit import By
from pipeline.store.cancels import Request
from pipeline.store.tasks import TaskRow, as_task_id
from pipeline.task_queue import as_status

blueprint = Routes("tasks", __name__, url_prefix="/api/tasks")


@blueprint.get("/")
def list_tasks() -> Response:
    """List tasks, newest first: those that wait or run, or those in the states that were asked for."""
    limit = read_limit()
    rows = read(status.find, _filters(), before=read_cursor(), limit=limit + 1)
    page = rows[:limit]
    next_cursor = page[-1].task_id if len(rows) > limit else None
    return answer_json({"tasks": [_shown(row) for row in page], "next_cursor": next_cursor})


@blueprint.get("/<task_id>/status/")
def show_status(task_id: str) -> Response:
    """Show one task; with ``?wait=25`` as soon as it has changed."""
    return answer_when_changed(
        lambda: _known(task_id),
        lambda row: answer_json(_shown(row)),
        wait_seconds=_wanted_wait(),
        since=request.args.get("since"),
    )


@blueprint.post("/<task_id>/cancel/")
def cancel_task(task_id: str) -> Response:
    """Cancel a task that waits, or ask a running one to end. ``{"reason": "…", "force": true}`` may say why and how."""
    asked = Request(By(who(), _reason()), Cancel(force=_force()).force_after_ms)
    state = act(partial(cancel_in_store, task_id=task_id, whole=False, request=asked))
    code = HTTPStatus.OK if state is TaskState.CANCELLED else HTTPStatus.ACCEPTED
    return answer_json(_shown(_known(task_id)), code)


def _known(task_id: str) -> TaskRow:
    known = as_task_id(task_id)
    found = read(tasks.status, known) if known else None
    if found is None:
        raise TaskNotFound(task_id)
    return found


def _shown(row: TaskRow) -> dict[str, Any]:
    return visible(as_status(row))


def _wanted_wait() -> int:
    """Read for how many seconds the answer may be waited for."""
    text = request.args.get("wait", "0")
    if not text.isascii() or not text.isdigit() or int(text) > LONGEST_WAIT_SECONDS:
        abort(400, f"wait is a number of seconds from 0 to {LONGEST_WAIT_SECONDS}")
    return int(text)


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
