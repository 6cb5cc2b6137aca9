"""Tokens of the HTTP API: make them, end them, and see to it that nobody serves the network without one."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.errors import ConfigurationError, TokenExists, TokenUnknown
from pipeline.store import tokens

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By

#: By this programs that look for leaked secrets know one.
_PREFIX = "tq_"
_SHAPE = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,63}")
_LONGEST = timedelta(days=3660)


def new_secret() -> str:
    """Make what a client will show: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Tell whether a text could be a token at all."""
    return _SHAPE.fullmatch(text) is not None


def hash_of(secret: str) -> bytes:
    """Hash a token, a code or the value of a session's cookie.

    Nobody can guess 256 random bits, so one round of SHA-256 is enough; and who finds a row by the hash compares
    nothing whose duration would tell how much of a guess was right.
    """
    return hashlib.sha256(secret.encode()).digest()


def check_name(name: str) -> None:
    """Return if a token may be called so.

    Raises:
        ValueError: It may not.
    """
    if not _NAME.fullmatch(name):
        message = f"A token's name has up to 64 letters, digits and _.:@+-, and no sign comes first; {name!r} is none"
        raise ValueError(message)


def create_token(
    sql: Mapping[str, str],
    cursor: Cursor,
    name: str,
    *,
    secret: str,
    scope: str,
    lifetime: timedelta | None,
    by: By,
) -> datetime | None:
    """Make a token, and return when it expires. It is safe to repeat with the same secret.

    Raises:
        TokenExists: A live one has this name.
        ValueError: The name, the scope or the lifetime makes no sense.
    """
    check_name(name)
    if scope not in tokens.SCOPES:
        message = f"A scope is one of {', '.join(tokens.SCOPES)}, not {scope!r}"
        raise ValueError(message)
    if lifetime is not None and not timedelta(milliseconds=1) <= lifetime <= _LONGEST:
        message = f"A token lives for at most {_LONGEST.days} days, or for ever, not for {lifetime}"
        raise ValueError(message)
    lifetime_ms = None if lifetime is None else round(lifetime.total_seconds() * 1000)
    made = tokens.create(sql, cursor, name, scope=scope, hash_=hash_of(secret), lifetime_ms=lifetime_ms, by=by)
    if made is None:
        raise TokenExists(name)
    return made[1]


def revoke_token(sql: Mapping[str, str], cursor: Cursor, name: str, *, by: By) -> None:
    """End a token and all sessions that were begun with it, at once.

    Raises:
        TokenUnknown: There is none of this name that has not been revoked.
    """
    if not tokens.revoke(sql, cursor, name, by=by):
        raise TokenUnknown(name)


def check_served(sql: Mapping[str, str], cursor: Cursor, addresses: str) -> None:
    """Return if the API may be served at addresses that others can reach.

    Raises:
        ConfigurationError: There is no token, so nobody could use it, and whoever wants it open has forgotten
        something.
    """
    if not tokens.has_any(sql, cursor):
        raise ConfigurationError(
            f"The HTTP API was to listen on {addresses}, which others can reach, and there is no token. "
            "Make one first: pipeline token create NAME --scope operate. Or listen on 127.0.0.1"
        )
