"""The login URL that ``pipeline up`` prints."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request

from api import sessions
from api.auth import public
from api.endpoints import Routes
from api.extensions import attached

blueprint = Routes("login", __name__)


@blueprint.get("/login")
@public
def log_in() -> Response:
    """Begin a session with the code of a login URL, once, and go to the first page."""
    if request.method == "HEAD":  # a program that looks at links must not use the code up
        return Response(status=HTTPStatus.NO_CONTENT)
    _, cookie = sessions.begin_with_code(request.args.get("code", ""))
    response = Response(status=HTTPStatus.SEE_OTHER)
    response.headers["Location"] = f"{request.script_root}{attached().url_prefix}/"
    sessions.set_cookie(response, cookie)
    return response
