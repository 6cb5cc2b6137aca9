"""Sessions of browsers: how they begin and end, and the cookie. Each is a row that hangs on a token.

The value of the cookie is 256 random bits, of which the database knows the hash. ``__Host-`` lets a browser take
the cookie from this host over https only, for all of its paths. Over plain http, which is for this machine itself,
it has no such name.
"""

from __future__ import annotations

import ipaddress
import secrets

from flask import request
from werkzeug.wrappers import Response

from api.reading import read
from api.refusals import TokenRefused, TooManyLogins
from pipeline.commands.tokens import hash_of, is_secret
from pipeline.logger import get_logger
from pipeline.store import rate_limits, tokens
from pipeline.store.tokens import SessionUse

_NAME = "pipeline_session"
#: So many logins, good or bad, may follow each other with less than that between them.
_MOST_LOGINS, _LOGIN_SECONDS = 10, 60

log = get_logger(__name__)


def begin_with_token(token: str) -> tuple[SessionUse, str]:
    """Begin a session; return whose it is, and the value of its cookie.

    Raises:
        TokenRefused: The token is not good.
        TooManyLogins: This address has tried too often.
    """
    _count_login()
    cookie = secrets.token_urlsafe(32)
    hashes = {"token": hash_of(token), "session": hash_of(cookie)} if is_secret(token) else None
    found = None if hashes is None else read(tokens.begin_session, **hashes)
    return _begun(found, "token", "There is no such token, or it has ended"), cookie


def begin_with_code(code: str) -> tuple[SessionUse, str]:
    """Begin a session with the code of a login URL, which is used up by that.

    Raises:
        TokenRefused: The code is unknown, used or too old.
        TooManyLogins: This address has tried too often.
    """
    _count_login()
    cookie = secrets.token_urlsafe(32)
    found = read(tokens.redeem_login, code=hash_of(code), session=hash_of(cookie))
    return _begun(found, "code", "This login URL was used already, or is too old"), cookie


def end(cookie: str) -> None:
    """End a session."""
    read(tokens.end_session, hash_of(cookie))


def read_cookie() -> str | None:
    """Return what the browser shows."""
    return request.cookies.get(_cookie_name())


def set_cookie(response: Response, cookie: str) -> None:
    """Let the browser show it from now on, to this host and in requests that its own pages make, until it is closed."""
    response.set_cookie(_cookie_name(), cookie, httponly=True, samesite="Strict", secure=request.is_secure, path="/")


def clear_cookie(response: Response) -> None:
    """Let the browser forget it."""
    response.delete_cookie(_cookie_name(), httponly=True, samesite="Strict", secure=request.is_secure, path="/")


def _cookie_name() -> str:
    return f"__Host-{_NAME}" if request.is_secure else _NAME


def _begun(found: SessionUse | None, what: str, complaint: str) -> SessionUse:
    if found is None:
        log.warning("login.refused", what=what, address=request.remote_addr)
        raise TokenRefused(complaint)
    log.info("login.done", what=what, who=found.name, address=request.remote_addr)
    return found


def _count_login() -> None:
    """Count in the database, so that the limit holds over all processes."""
    key = f"api login {_client()}"
    if not read(rate_limits.count, key, 1, _LOGIN_SECONDS * 1000, most=_MOST_LOGINS):
        log.warning("login.limited", address=request.remote_addr)
        raise TooManyLogins(_LOGIN_SECONDS)


def _client() -> str:
    """Name the client by its address; of IPv6 by its network, of which anybody has all addresses."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "local"
    return str(address if address.version == 4 else ipaddress.ip_network((int(address), 64), strict=False))
