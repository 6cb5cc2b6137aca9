"""From exceptions to answers: one table, and RFC 9457 (``application/problem+json``) for all of them."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException

from pipeline import (
    DatabaseUnavailable,
    DuplicateTask,
    EnqueueNotCommitted,
    MessageNotEncodable,
    MessageTooLarge,
    PipelineError,
    ScheduleConflict,
    ScheduleInvalid,
    ScheduleUnknown,
    SchemaOutdated,
    TaskConflict,
    TaskIsRunning,
    TaskNotFound,
)
from pipeline.logger import get_logger

#: The first class that an error is an instance of decides.
STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (TaskNotFound, HTTPStatus.NOT_FOUND),
    (ScheduleUnknown, HTTPStatus.NOT_FOUND),
    (TaskConflict, HTTPStatus.CONFLICT),
    (ScheduleConflict, HTTPStatus.CONFLICT),
    (DuplicateTask, HTTPStatus.CONFLICT),
    (TaskIsRunning, HTTPStatus.CONFLICT),
    (MessageTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (MessageNotEncodable, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ScheduleInvalid, HTTPStatus.UNPROCESSABLE_ENTITY),
    (SchemaOutdated, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (OperationalError, HTTPStatus.SERVICE_UNAVAILABLE),
    (EnqueueNotCommitted, HTTPStatus.INTERNAL_SERVER_ERROR),
    (PipelineError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

_KINDS = tuple(kind for kind, _ in STATUSES)
#: Their text names hosts and ports, which is for the log.
_DISCREET = (DatabaseUnavailable, OperationalError)
_RETRY_AFTER_SECONDS = "5"

log = get_logger(__name__)


def init_app(app: Flask) -> None:
    """Answer with problems. What is in no row of the table is Flask's to log, and a 500 without details."""
    for kind in _KINDS:
        app.register_error_handler(kind, _answer)
    app.register_error_handler(HTTPException, _answer_http)


def _answer(error: Exception) -> Response:
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", error=str(error), status=status.value)
    detail = "PostgreSQL does not answer; try again in a moment." if isinstance(error, _DISCREET) else str(error)
    known = {name: getattr(error, name) for name in ("task_id", "state", "limit") if hasattr(error, name)}
    response = problem(status, f"urn:pipeline:problem:{_dashed(type(error).__name__)}", detail, **known)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return response


def _answer_http(error: HTTPException) -> Response:
    """Answer what a view aborted with, or what nobody expected."""
    original: object = getattr(error, "original_exception", None)
    if isinstance(original, _KINDS):
        return _answer(original)
    response = problem(HTTPStatus(error.code or 500), "about:blank", error.description or "")
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value
    return response


def problem(status: HTTPStatus, kind: str, detail: str, **more: Any) -> Response:
    """Make an answer that says what is wrong."""
    content = {"type": kind, "title": status.phrase, "status": status.value, "detail": detail, **more}
    return current_app.response_class(
        current_app.json.dumps(content), status.value, mimetype="application/problem+json"
    )


def _dashed(name: str) -> str:
    """Write TaskNotFound as task-not-found."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
