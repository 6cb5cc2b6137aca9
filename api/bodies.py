"""How much a client may send."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from api.extensions import app_settings

#: What a body may hold besides the arguments of a task.
_AROUND_BYTES = 65_536


def limit_body() -> None:
    """Refuse a body that is larger than any of our operations takes, before it is read."""
    most = app_settings().message_limit_bytes + _AROUND_BYTES
    request.max_content_length = most
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge(f"The body may have {most} bytes")
