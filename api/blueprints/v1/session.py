"""Logging in and out with a browser."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response

from api import csrf, sessions
from api.answers import answer_json
from api.auth import Caller, caller, public
from api.endpoints import Endpoints
from api.problems import problems
from api.scopes import Scope, needs
from api.shapes.session import Credentials, Session
from pipeline.commands.tokens import hash_of

blueprint = Endpoints("session", __name__)


@blueprint.post("", responses={201: Session, **problems(413, 415, 422)})
@public
def begin_session(body: Credentials) -> Response:
    """Log a browser in with a token: it gets a cookie, which no script and no other site can use."""
    csrf.check_origin()
    begun, cookie = sessions.begin_with_token(body.token)
    now = Caller(begun.name, Scope(begun.scope), begun.ends_at, hash_of(cookie), cookie)
    response = _answer(now, HTTPStatus.CREATED)
    sessions.set_cookie(response, cookie)
    return response


@blueprint.get("", responses={200: Session})
@needs(Scope.READ)
def show_session() -> Response:
    """Tell who the caller is."""
    return _answer(caller())


@blueprint.delete("", responses={204: None})
@needs(Scope.READ)
def end_session() -> Response:
    """Log out. A token that was shown instead of a cookie stays as it is."""
    response = Response(status=HTTPStatus.NO_CONTENT)
    session = caller().session
    if session is not None:
        sessions.end(session)
        sessions.clear_cookie(response)
    return response


def _answer(known: Caller, status: int = HTTPStatus.OK) -> Response:
    shape = Session(
        name=known.name,
        scope=known.scope,
        scopes=list(known.scopes),
        ends_at=known.ends_at,
        csrf_token=None if known.session is None else csrf.token_for(known.session),
    )
    return answer_json(shape.model_dump(), status)
