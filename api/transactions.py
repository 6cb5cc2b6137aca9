"""What is sent in a request belongs to the request's transaction: ``actor.send()`` in a view joins ``db.session``.

``db`` is the one that our extension was given; in an application without one each send is a transaction of its own.

- ``db.session.commit()`` makes the view's rows and its tasks exist, together. The view does that.
- A request that fails, or whose session is rolled back, leaves no task.
- A view that sends, ends well and has not committed would lose its task without a word. So its answer is not sent:
  EnqueueNotCommitted is raised. With ``COMMIT_SENDS = True`` in the application's configuration it is committed
  instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Flask, Response, current_app, has_request_context, request

from api.extensions import attached
from pipeline import EnqueueNotCommitted, get_broker
from pipeline.integrations.sqlalchemy import forget_sends, has_waiting_sends
from pipeline.logger import get_logger

log = get_logger(__name__)


def init_app(app: Flask) -> None:
    """Join the sends of this application's requests to their sessions."""
    app.config.setdefault("COMMIT_SENDS", False)
    app.after_request(_settle)
    app.teardown_request(_forget)
    _join_sends()


@cache
def _join_sends() -> None:
    """Tell the broker, once per process."""
    get_broker().join_sends_to(_session_of_request)


def _session_of_request() -> Any:
    """Find the session that a send belongs to; none outside requests, and in those of somebody else's application."""
    return _session() if has_request_context() and "pipeline" in current_app.extensions else None


def _settle(response: Response) -> Response:
    """See to it that a good answer leaves no sends behind, and that a bad one takes them back."""
    if response.status_code >= 400:
        _forget_sends()
    elif _has_waiting_sends():
        if not current_app.config["COMMIT_SENDS"]:
            raise EnqueueNotCommitted(
                f"{request.method} {request.path} sent tasks and did not commit db.session; they were not enqueued"
            )
        _session().commit()
    return response


def _forget(error: BaseException | None) -> None:
    """Drop what was sent while the answer was on its way already, which is a mistake of the view."""
    dropped = _forget_sends()
    if dropped and error is None:
        log.error("request.sends_lost", path=request.path, sends=dropped)


def _has_waiting_sends() -> bool:
    session = _session()
    return session is not None and session.registry.has() and has_waiting_sends(session())


def _forget_sends() -> int:
    session = _session()
    return forget_sends(session()) if session is not None and session.registry.has() else 0


def _session() -> Any:
    """Give the application's scoped session; None if it has none."""
    database = attached().db
    return None if database is None else database.session
