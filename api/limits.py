"""How large a body may be: small, unless the view takes uploads. The rest is told in ``api.server``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.extensions import app_settings

View = TypeVar("View", bound=Callable[..., Any])

#: What a body may hold besides the arguments of a task.
_AROUND_BYTES = 65_536


def takes_uploads(view: View) -> View:
    """Let a view be sent files. Stands right above the function, below its route."""
    view.takes_uploads = True  # type: ignore[attr-defined]
    return view


def limit_body() -> None:
    """Limit the body of this request: who says that it is larger gets 413 before it is read.

    Werkzeug would cut off one that does not say how long it is without a word, so that one is read here.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    settings = app_settings()
    is_upload = getattr(view, "takes_uploads", False)
    most = settings.upload_limit_bytes if is_upload else settings.message_limit_bytes + _AROUND_BYTES
    request.max_content_length = most
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge(f"The body may have {most} bytes")
    if not is_upload and "Transfer-Encoding" in request.headers and len(request.get_data()) >= most:
        raise RequestEntityTooLarge(f"The body may have {most} bytes")
