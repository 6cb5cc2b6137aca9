"""Commands on single tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from flask import Response, request

from api.acting import act, blamed_on, by, check_seen
from api.answers import answer_one
from api.creating import create
from api.endpoints import Endpoints
from api.problems import Responses, problems
from api.scopes import Scope, needs
from api.shapes.commands import CancelTask, Clone, Idempotency, Move, NewTask, Reprioritise, Reschedule, Retry, Snooze
from api.shapes.tasks import LARGE_OF_ONE, Selection, Task, TaskPath
from pipeline import QueueUnknown, TaskNotFound, TaskState
from pipeline.broker.cloning import Changes, clone_of
from pipeline.commands import tasks as commands
from pipeline.commands.cancel import cancel_task as cancel_in_store
from pipeline.context import delay_ms
from pipeline.runtime import our_broker
from pipeline.store import tasks
from pipeline.store.cancels import Request
from pipeline.store.tasks import TaskRow, as_task_id

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from api.acting import Deed

T = TypeVar("T")

blueprint = Endpoints("tasks", __name__)

#: What a command on a task may answer besides the task.
_REFUSED: Responses = problems(404, 409, 412, 415, 422)
_CHANGED: Responses = {200: Task, **_REFUSED}


@blueprint.post("", responses={201: Task, 200: Task, **problems(409, 413, 415, 422)})
@needs(Scope.OPERATE)
def create_task(header: Idempotency, body: NewTask) -> Response:
    """Enqueue a task. Sent again with the same Idempotency-Key, it is answered with the first task, and 200.

    The same 200 says that another task has the unique key, and stands for this one. The key is good until a day after
    the task has ended; with another body it is refused.
    """
    created = create(body, header.key)
    return _answer(created.task, HTTPStatus.CREATED if created.is_new else HTTPStatus.OK, request.path)


@blueprint.post("/<task_id>/cancel", responses={200: Task, 202: Task, **_REFUSED})
@needs(Scope.OPERATE)
def cancel_task(path: TaskPath, body: CancelTask) -> Response:
    """Cancel a task that waits, which is gone then, or ask one that runs to end, which is answered with 202.

    Cancelling again changes nothing. What has ended otherwise is a conflict.
    """
    asked = Request(by(body), body.force_after_ms)
    cancel = partial(cancel_in_store, task_id=path.task_id, whole=body.whole, request=asked)
    state, task = _change(path, cancel)
    return _answer(task, HTTPStatus.OK if state is TaskState.CANCELLED else HTTPStatus.ACCEPTED)


@blueprint.post("/<task_id>/retry", responses=_CHANGED)
@needs(Scope.OPERATE)
def retry_task(path: TaskPath, body: Retry) -> Response:
    """Let a task run now that waits for its time or its retry, or that failed, was cancelled or skipped."""
    return _answer_changed(path, partial(commands.retry_now, again=body.again, by=by(body)))


@blueprint.post("/<task_id>/snooze", responses=_CHANGED)
@needs(Scope.OPERATE)
def snooze_task(path: TaskPath, body: Snooze) -> Response:
    """Let a waiting task wait for so long at least, from now on."""
    return _answer_changed(path, partial(commands.snooze, for_=body.span, by=by(body)))


@blueprint.post("/<task_id>/reschedule", responses=_CHANGED)
@needs(Scope.OPERATE)
def reschedule_task(path: TaskPath, body: Reschedule) -> Response:
    """Let a waiting task be due at another time, earlier or later."""
    return _answer_changed(path, partial(commands.reschedule, eta=body.eta, by=by(body)))


@blueprint.post("/<task_id>/reprioritise", responses=_CHANGED)
@needs(Scope.OPERATE)
def reprioritise_task(path: TaskPath, body: Reprioritise) -> Response:
    """Give a waiting task another priority, which its retries keep."""
    ensure = our_broker().sender.ensure_lanes
    change = partial(commands.reprioritise, priority=body.priority, ensure_lanes=ensure, by=by(body))
    return _answer_changed(path, change)


@blueprint.post("/<task_id>/move", responses=_CHANGED)
@needs(Scope.OPERATE)
def move_task(path: TaskPath, body: Move) -> Response:
    """Let a waiting task wait in another queue, whose workers must have its actor."""
    ensure = our_broker().sender.ensure_lanes
    with blamed_on("queue", QueueUnknown):
        return _answer_changed(path, partial(commands.move_task, queue=body.queue, ensure_lanes=ensure, by=by(body)))


@blueprint.post("/<task_id>/clone", responses={201: Task, 200: Task, **problems(413), **_REFUSED})
@needs(Scope.OPERATE)
def clone_task(path: TaskPath, body: Clone) -> Response:
    """Enqueue a copy of a task, in whatever state that is. 200: another task has the key, and stands for the copy."""
    with blamed_on("queue", QueueUnknown):
        clone_id, task = act(partial(_clone, path.task_id, body, _changes(body)))
    status = HTTPStatus.CREATED if task.task_id == clone_id else HTTPStatus.OK
    return _answer(task, status, request.path.rstrip("/").rsplit("/", 2)[0])


def _changes(body: Clone) -> Changes:
    given = body.given
    return Changes(
        given.get("args"),
        given.get("kwargs"),
        body.queue,
        body.priority,
        None if body.delay_seconds is None else delay_ms(body.delay_seconds),
        body.message_options,
    )


def _clone(task_id: str, body: Clone, changes: Changes, sql: Mapping[str, str], cursor: Cursor) -> tuple[str, TaskRow]:
    _check_seen(sql, cursor, task_id)
    if changes.queue is not None:
        commands.check_queue(sql, cursor, changes.queue)
    make = partial(clone_of, our_broker(), changes=changes)
    standing = commands.clone(sql, cursor, task_id, make=make, by=by(body))
    return changes.message_id, _read(sql, cursor, standing)


def _answer_changed(path: TaskPath, command: Callable[..., None]) -> Response:
    """Change a task, and answer with what it is then."""
    _, task = _change(path, partial(command, task_id=path.task_id))
    return _answer(task)


def _change(path: TaskPath, command: Deed[T]) -> tuple[T, TaskRow]:
    """Do something to a task, if it is as the client has seen it, and tell what it is then; in one transaction."""

    def deed(sql: Mapping[str, str], cursor: Cursor) -> tuple[T, TaskRow]:
        _check_seen(sql, cursor, path.task_id)
        done = command(sql, cursor)
        return done, _read(sql, cursor, path.task_id)

    return act(deed)


def _check_seen(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> None:
    """Refuse to act on a task that has changed since the client saw it, and keep it as it is meanwhile."""

    def seen() -> Response:
        known = as_task_id(task_id)
        if known is None:
            raise TaskNotFound(task_id)
        tasks.hold(sql, cursor, known)
        return _answer(_read(sql, cursor, known))

    check_seen(seen)


def _read(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> TaskRow:
    row = tasks.status(sql, cursor, task_id)
    if row is None:
        raise TaskNotFound(task_id)
    return row


def _answer(row: TaskRow, status: int = HTTPStatus.OK, collection: str | None = None) -> Response:
    """Answer as for a GET of the task; with its place in a collection, if it is new to the client."""
    response = answer_one(Task.model_validate(row), Selection().shown(LARGE_OF_ONE), status)
    if collection is not None:
        response.headers["Location"] = f"{request.script_root}{collection.rstrip('/')}/{row.task_id}"
    return response
