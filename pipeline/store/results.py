"""Statements about results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def result(sql: Mapping[str, str], cursor: Cursor, message_id: str) -> tuple[str | None] | None:
    """Return the stored result's JSON in a tuple (None in it for the result None), or None while there is none."""
    cursor.execute(sql["result"], {"message_id": message_id})
    return cursor.fetchone()


def results(sql: Mapping[str, str], cursor: Cursor, message_ids: Iterable[str]) -> dict[str, str | None]:
    """Return the stored results of those tasks that have one."""
    cursor.execute(sql["results"], {"message_ids": list(message_ids)})
    return dict(cursor.fetchall())


def store(sql: Mapping[str, str], cursor: Cursor, message_id: str, value: str | None, ttl_ms: int) -> None:
    """Keep a result that belongs to no run of ours."""
    cursor.execute(sql["store_result"], {"message_id": message_id, "result": value, "ttl_ms": ttl_ms})
