"""From exceptions to answers: one table, and a problem (``api.problems``) for each of them.

An answer never tells a stack trace, a statement, or where the database is; that is for the log.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NoReturn

from flask import Blueprint, Response
from flask.sansio.scaffold import Scaffold
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, default_exceptions

from api.problems import KINDS, kind_of, problem
from pipeline import (
    ActorUnknown,
    DatabaseUnavailable,
    DuplicateTask,
    EnqueueNotCommitted,
    MessageNotEncodable,
    MessageTooLarge,
    PipelineError,
    QueueUnknown,
    SchemaOutdated,
    TaskConflict,
    TaskIsRunning,
    TaskNotFound,
    TaskState,
    WorkerEnded,
    WorkerUnknown,
)
from pipeline.errors import GateUnknown, QueryTimedOut
from pipeline.logger import get_logger

#: The first class that an error is an instance of decides.
STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (TaskNotFound, HTTPStatus.NOT_FOUND),
    (QueueUnknown, HTTPStatus.NOT_FOUND),
    (WorkerUnknown, HTTPStatus.NOT_FOUND),
    (ActorUnknown, HTTPStatus.NOT_FOUND),
    (GateUnknown, HTTPStatus.NOT_FOUND),
    (TaskConflict, HTTPStatus.CONFLICT),
    (WorkerEnded, HTTPStatus.CONFLICT),
    (DuplicateTask, HTTPStatus.CONFLICT),
    (TaskIsRunning, HTTPStatus.CONFLICT),
    (MessageTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (MessageNotEncodable, HTTPStatus.UNPROCESSABLE_ENTITY),
    (QueryTimedOut, HTTPStatus.GATEWAY_TIMEOUT),
    (SchemaOutdated, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (OperationalError, HTTPStatus.SERVICE_UNAVAILABLE),
    (EnqueueNotCommitted, HTTPStatus.INTERNAL_SERVER_ERROR),
    (PipelineError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

#: What can be done to a task in a state, in the words of ``pipeline.operate``.
_WAITING = ("cancel", "reprioritise", "reschedule", "snooze", "move", "retry", "clone")
ALLOWED_ACTIONS: dict[TaskState, tuple[str, ...]] = {
    TaskState.SCHEDULED: _WAITING,
    TaskState.QUEUED: _WAITING,
    TaskState.RUNNING: ("cancel", "clone"),
    TaskState.SUCCEEDED: ("retry", "clone"),
    TaskState.FAILED: ("retry", "clone"),
    TaskState.CANCELLED: ("retry", "clone"),
    TaskState.SKIPPED: ("retry", "clone"),
}

_KINDS = tuple(kind for kind, _ in STATUSES)
#: Told instead of errors' own texts, which name hosts and ports, or statements.
_DATABASE_AWAY = "PostgreSQL does not answer; try again in a moment."
_WENT_WRONG = "Something went wrong here; the log says what."
_RETRY_AFTER_SECONDS = "5"

log = get_logger(__name__)


def register(part: Scaffold) -> None:
    """Let an application, or only a blueprint, answer with problems."""
    for kind in _KINDS:
        part.register_error_handler(kind, answer)
    part.register_error_handler(HTTPException, answer_http)


def register_before_host(part: Blueprint) -> None:
    """Do the same in a blueprint, whatever its application does about errors.

    What an application has registered for a status, or for any exception at all, comes before what a blueprint has
    registered for exceptions in general.
    """
    register(part)
    for status in default_exceptions:
        part.register_error_handler(status, answer_http)
    part.register_error_handler(Exception, _leave_to_flask)


def _leave_to_flask(error: Exception) -> NoReturn:
    """Let Flask log it, and ask us again what to answer: for status 500."""
    raise error


def answer(error: Exception) -> Response:
    """Tell what is in the table."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", error=str(error), status=status.value)
    known = {name: getattr(error, name) for name in ("task_id", "state", "limit") if hasattr(error, name)}
    if isinstance(error, TaskConflict) and error.state in ALLOWED_ACTIONS:
        known["allowed_actions"] = list(ALLOWED_ACTIONS[TaskState(error.state)])
    response = problem(status, _kind(error), _detail(error), **known)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return response


def answer_http(error: HTTPException) -> Response:
    """Tell what a view aborted with, or that something happened which nobody expected."""
    original: object = getattr(error, "original_exception", None)
    if isinstance(original, _KINDS):
        return answer(original)
    status = HTTPStatus(error.code or 500)
    more: dict[str, Any] = getattr(error, "more", {})
    detail = _WENT_WRONG if original is not None else error.description or ""
    response = problem(status, getattr(error, "kind", KINDS.get(status, "")), detail, **more)
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value
    return response


def _kind(error: Exception) -> str:
    return "database-unavailable" if isinstance(error, OperationalError) else kind_of(type(error))


def _detail(error: Exception) -> str:
    if isinstance(error, DatabaseUnavailable | OperationalError):
        return _DATABASE_AWAY
    return str(error)
