"""Logging in and out with a browser."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, jsonify, redirect, request
from flask.typing import ResponseReturnValue

from api import csrf, sessions
from api.auth import Caller, caller, public
from api.scopes import Scope, needs

blueprint = Blueprint("session", __name__)

_PATH = "/api/v1/session"


@blueprint.get("/login")
@public
def log_in() -> ResponseReturnValue:
    """Begin a session with the code of a login URL, once, and go to the first page."""
    if request.method == "HEAD":  # a program that looks at links must not use the code up
        return Response(status=204)
    _, cookie = sessions.begin_with_code(request.args.get("code", ""))
    response = redirect("/", 303)
    sessions.set_cookie(response, cookie)
    return response


@blueprint.post(_PATH)
@public
def begin_session() -> ResponseReturnValue:
    """Begin a session with ``{"token": "tq_…"}``."""
    csrf.check_origin()
    begun, cookie = sessions.begin_with_token(_shown_token())
    response = jsonify(_described(Caller(begun.name, Scope(begun.scope), begun.ends_at, cookie)))
    response.status_code = 201
    sessions.set_cookie(response, cookie)
    return response


@blueprint.get(_PATH)
@needs(Scope.READ)
def show_session() -> ResponseReturnValue:
    """Tell who the caller is."""
    return _described(caller())


@blueprint.delete(_PATH)
@needs(Scope.READ)
def end_session() -> ResponseReturnValue:
    """Log out. A token that was shown instead of a cookie stays as it is."""
    response = Response(status=204)
    session = caller().session
    if session is not None:
        sessions.end(session)
        sessions.clear_cookie(response)
    return response


def _described(known: Caller) -> dict[str, Any]:
    return {
        "name": known.name,
        "scope": known.scope,
        "scopes": known.scopes,
        "ends_at": known.ends_at,
        "csrf_token": None if known.session is None else csrf.token_for(known.session),
    }


def _shown_token() -> str:
    """Read the token. Only JSON will do, which no form of another site can send."""
    body = request.get_json()
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str):
        abort(422, 'Send {"token": "tq_…"}')
    return token
