"""Statements about who may use the HTTP API. Every secret comes here as its hash."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By

#: What a token is good for; each holds the ones before it.
SCOPES = ("read", "operate", "admin")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """What is known of a token."""

    token_id: int
    name: str
    scope: str
    #: ``live``, ``expired`` or ``revoked``.
    state: str
    created_at: datetime
    created_by: str
    #: None: it does not.
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Whose a token is that somebody has shown."""

    name: str
    scope: str
    #: As that of :class:`TokenRow`.
    state: str
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionUse:
    """Whose a session is."""

    #: Those of the token it was begun with.
    name: str
    scope: str
    ends_at: datetime


def create(
    sql: Mapping[str, str], cursor: Cursor, name: str, *, scope: str, hash_: bytes, lifetime_ms: int | None, by: By
) -> tuple[int, datetime | None] | None:
    """Make a token; return its number and when it expires, None if a live one has this name."""
    given = {"name": name, "scope": scope, "hash": hash_, "lifetime_ms": lifetime_ms}
    cursor.execute(sql["create_api_token"], {**given, **by.parameters})
    row = cursor.fetchone()
    return None if row is None else (row[0], row[1])


def revoke(sql: Mapping[str, str], cursor: Cursor, name: str, *, by: By) -> bool:
    """End a token and its sessions; False if there is none of this name."""
    cursor.execute(sql["revoke_api_token"], {"name": name, **by.parameters})
    return bool(_value(cursor))


def find_all(sql: Mapping[str, str], cursor: Cursor, *, ended: bool = False) -> list[TokenRow]:
    """List the live tokens, the newest first; with ``ended`` the others, too."""
    cursor.execute(sql["api_tokens"], {"all": ended})
    return [TokenRow(*row) for row in cursor.fetchall()]


def has_any(sql: Mapping[str, str], cursor: Cursor) -> bool:
    """Tell whether there is a live token."""
    cursor.execute(sql["has_api_token"])
    return bool(_value(cursor))


def use(sql: Mapping[str, str], cursor: Cursor, hash_: bytes) -> TokenUse | None:
    """Tell whose a token is; None for one that never was."""
    cursor.execute(sql["use_api_token"], {"hash": hash_})
    row = cursor.fetchone()
    return None if row is None else TokenUse(*row)


def create_login(sql: Mapping[str, str], cursor: Cursor, *, token: bytes, code: bytes, lifetime_ms: int) -> bool:
    """Let a code begin one session as a token; False if the token is not live."""
    cursor.execute(sql["create_api_login"], {"token": token, "code": code, "lifetime_ms": lifetime_ms})
    return bool(_value(cursor))


def redeem_login(sql: Mapping[str, str], cursor: Cursor, *, code: bytes, session: bytes) -> SessionUse | None:
    """Begin a session with a code, once; None if it is unknown, used or too old."""
    cursor.execute(sql["redeem_api_login"], {"code": code, "session": session})
    return _session(cursor)


def begin_session(sql: Mapping[str, str], cursor: Cursor, *, token: bytes, session: bytes) -> SessionUse | None:
    """Begin a session with a token; None if that is not live."""
    cursor.execute(sql["begin_api_session"], {"token": token, "session": session})
    return _session(cursor)


def use_session(sql: Mapping[str, str], cursor: Cursor, session: bytes) -> SessionUse | None:
    """Tell whose a session is; None if there is none, or none any more."""
    cursor.execute(sql["use_api_session"], {"session": session})
    return _session(cursor)


def end_session(sql: Mapping[str, str], cursor: Cursor, session: bytes) -> None:
    """End a session."""
    cursor.execute(sql["end_api_session"], {"session": session})


def good(sql: Mapping[str, str], cursor: Cursor, credentials: Collection[bytes]) -> set[bytes]:
    """Tell which of these are still good, tokens and sessions; who asks does not count as a use of them."""
    cursor.execute(sql["good_api_credentials"], {"hashes": [psycopg2.Binary(each) for each in credentials]})
    return {bytes(hash_) for (hash_,) in cursor.fetchall()}


def shared_secret(sql: Mapping[str, str], cursor: Cursor) -> bytes:
    """Give the key that all web servers of this database share."""
    cursor.execute(sql["api_secret"])
    return bytes(_value(cursor))


def _session(cursor: Cursor) -> SessionUse | None:
    row = cursor.fetchone()
    return None if row is None else SessionUse(*row)


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
