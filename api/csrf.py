"""Requests that a browser sends with its cookie: did one of our own pages ask for it?

Two proofs are wanted of whatever changes something. The browser's word: ``Origin`` is this host. And a token that
only a page of this origin can have read, in ``X-CSRF-Token``: ``GET /api/v1/session`` tells it. It belongs to the
one session. A request with a bearer token needs neither, since no browser adds that by itself.
"""

from __future__ import annotations

import hmac

from flask import request

from api.refusals import CsrfFailed
from api.secret_key import signing_key

HEADER = "X-CSRF-Token"


def token_for(session: str) -> str:
    """Give the token of a session, by the value of its cookie."""
    return hmac.new(signing_key("csrf"), session.encode(), "sha256").hexdigest()


def check(session: str) -> None:
    """Return if a page of ours sent this request.

    Raises:
        CsrfFailed: Nothing proves it.
    """
    check_origin()
    shown = request.headers.get(HEADER, "")
    if not hmac.compare_digest(shown.encode(), token_for(session).encode()):
        raise CsrfFailed(f"Send the csrf_token of GET /api/v1/session as {HEADER}")


def check_origin() -> None:
    """Return if the browser does not say that a page of another host asks; programs say nothing.

    The scheme is left out: behind a proxy that is not trusted we do not know ours.

    Raises:
        CsrfFailed: It does.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != request.host.lower():
        raise CsrfFailed("A page of another origin asks for this")
