"""The login URL that ``pipeline up`` prints."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request, url_for

from api import sessions
from api.auth import public
from api.endpoints import Routes

blueprint = Routes("login", __name__)


@blueprint.get("/login")
@public
def log_in() -> Response:
    """Begin a session with the code of a login URL, once, and go to the page that tells what there is."""
    if request.method == "HEAD":  # a program that looks at links must not use the code up
        return Response(status=HTTPStatus.NO_CONTENT)
    _, cookie = sessions.begin_with_code(request.args.get("code", ""))
    response = Response(status=HTTPStatus.SEE_OTHER)
    response.headers["Location"] = url_for("pipeline.document.show_page")
    sessions.set_cookie(response, cookie)
    return response
