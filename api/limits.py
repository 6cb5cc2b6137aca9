"""How large a body may be: small, unless the view takes uploads. The rest is told in ``api.server``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.extensions import app_settings

View = TypeVar("View", bound=Callable[..., Any])


def takes_uploads(view: View) -> View:
    """Let a view be sent files. Stands right above the function, below its route."""
    view.takes_uploads = True  # type: ignore[attr-defined]
    return view


def init_app(app: Flask) -> None:
    """Limit the bodies of this application's requests; who sends more gets 413 as soon as the body is to be read."""
    app.before_request(limit_body)


def limit_body() -> None:
    """Limit the body of this request."""
    view = current_app.view_functions.get(request.endpoint or "")
    settings = app_settings()
    is_upload = getattr(view, "takes_uploads", False)
    request.max_content_length = settings.upload_limit_bytes if is_upload else settings.body_limit_bytes
    if not is_upload and "Transfer-Encoding" in request.headers:
        _check_length(settings.body_limit_bytes)


def _check_length(limit: int) -> None:
    """Read a body that does not say how long it is. Werkzeug would cut it off at the limit without a word."""
    if len(request.get_data()) >= limit:
        raise RequestEntityTooLarge
