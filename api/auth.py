"""Who asks, and whether they may: one look before each request.

A view says by ``@needs(Scope.…)`` which scope its caller must have. One that says nothing needs ``operate`` if it
changes something and ``read`` if not, so a new one that nobody thought about is closed. What is open to everybody
says so: ``@public``.

A caller shows a token (``Authorization: Bearer tq_…``), or the cookie of a session that was begun with one
(``api.sessions``). Both are looked up in the database each time, by the index of their hashes: a token that was
revoked is refused from the next request on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from flask import current_app, request

from api import csrf
from api.reading import read
from api.refusals import ScopeMissing, TokenRefused, Unauthenticated
from api.scopes import Scope
from api.sessions import read_cookie
from pipeline.commands.tokens import hash_of, is_secret
from pipeline.logger import get_logger
from pipeline.settings import is_loopback
from pipeline.store import tokens

View = TypeVar("View", bound=Callable[..., Any])

#: Where a request keeps its caller. Not in ``g``, which a request shares with one that is made inside it.
_CALLER = "pipeline.caller"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Each scope holds those before it.
_ORDER = tuple(Scope)
#: What proxies add. A request with one of these comes from elsewhere, whatever its address says.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is."""

    #: The token's, which the audit trail names.
    name: str
    scope: Scope
    #: When the token, or the session, is over.
    ends_at: datetime | None
    #: The hash of the token, or of the cookie.
    credential: bytes = field(repr=False)
    #: The value of the session's cookie; None for a request with a token.
    session: str | None = field(default=None, repr=False)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All that the scope holds."""
        return _ORDER[: _ORDER.index(self.scope) + 1]


def public(view: View) -> View:
    """Let everybody call a view. Stands right above the function, below its route."""
    view.is_public = lambda: True  # type: ignore[attr-defined]
    return view


def public_on_loopback(view: View) -> View:
    """Let programs of this machine call a view without a token. Others need one."""
    view.is_public = _is_from_this_machine  # type: ignore[attr-defined]
    return view


def authorise() -> None:
    """Let the caller through, and remember who it is, or refuse.

    A part of an application and the whole of it may both ask; it looks once.

    Raises:
        Unauthenticated: It shows nothing that is good.
        ScopeMissing: It may not do this.
        CsrfFailed: A page of somebody else may have made a browser send this.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    if _CALLER in request.environ or view is None or _asks_for_methods() or is_public(view):
        return
    caller = _caller()
    needed = needed_scope(view, request.method)
    if needed not in caller.scopes:
        log.warning("request.forbidden", **_whence(), who=caller.name, scope=caller.scope.value, needed=needed.value)
        raise ScopeMissing(needed, caller.scope)
    if caller.session is not None and request.method not in SAFE_METHODS:
        csrf.check(caller.session)
    request.environ[_CALLER] = caller


def _asks_for_methods() -> bool:
    """Tell whether Flask answers by itself which methods there are: no view runs, and ``GET /`` lists them as well."""
    return request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False)


def is_public(view: Callable[..., Any]) -> bool:
    """Tell whether this request needs no token."""
    question: Callable[[], bool] | None = getattr(view, "is_public", None)
    return question is not None and question()


def needed_scope(view: Callable[..., Any], method: str) -> Scope:
    """Tell what is needed to call a view."""
    declared: Scope | None = getattr(view, "needed_scope", None)
    return declared or (Scope.READ if method in SAFE_METHODS else Scope.OPERATE)


def caller() -> Caller:
    """Return whose request this is. Not in public views."""
    found: Caller = request.environ[_CALLER]
    return found


def who() -> str:
    """Name the caller as the audit trail does."""
    return caller().name


def _caller() -> Caller:
    """Find out who asks. A token that is wrong is not made good by a cookie."""
    header = request.headers.get("Authorization")
    return _of_session() if header is None else _of_token(header)


def _of_token(header: str) -> Caller:
    scheme, _, secret = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        _refuse("no token", Unauthenticated())
    credential = hash_of(secret.strip())
    found = read(tokens.use, credential) if is_secret(secret.strip()) else None
    if found is None:
        _refuse("unknown token", TokenRefused("There is no such token"))
    if found.state != "live":
        _refuse(f"{found.state} token", TokenRefused(_ENDED[found.state]), who=found.name)
    return Caller(found.name, Scope(found.scope), found.ends_at, credential)


_ENDED = {"expired": "This token has expired", "revoked": "This token has been revoked"}


def _of_session() -> Caller:
    cookie = read_cookie()
    if cookie is None:
        raise Unauthenticated
    credential = hash_of(cookie)
    found = read(tokens.use_session, credential)
    if found is None:
        _refuse("unknown session", TokenRefused("This session is over; log in again"))
    return Caller(found.name, Scope(found.scope), found.ends_at, credential, cookie)


def _refuse(reason: str, refusal: Unauthenticated, **more: str) -> NoReturn:
    """Refuse, and log what the caller showed without showing it."""
    log.warning("request.refused", **_whence(), reason=reason, **more)
    raise refusal


def _whence() -> dict[str, Any]:
    """Say where somebody wanted to go, by the route: the path is the client's own text."""
    return {"method": request.method, "route": str(request.url_rule), "address": request.remote_addr}


def _is_from_this_machine() -> bool:
    """Tell whether a program of this machine asks, and neither a proxy for somebody else nor a page in a browser.

    A page of somebody's may give its name this machine's address and then ask as its own origin; but it asks for
    that name.
    """
    host = re.sub(r":\d+$", "", request.host)
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    return not is_forwarded and is_loopback(request.remote_addr or "") and is_loopback(host)
