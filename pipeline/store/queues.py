"""Statements about whole queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def pause(
    sql: Mapping[str, str], cursor: Cursor, queue: str, *, who: str, reason: str, resume_after_ms: int | None
) -> bool:
    """Let nothing be claimed from a queue; False if there is no such queue."""
    where = {"queue": queue, "who": who, "reason": reason, "resume_after_ms": resume_after_ms}
    cursor.execute(sql["pause_queue"], where)
    value: bool = _value(cursor)
    return value


def resume(sql: Mapping[str, str], cursor: Cursor, queue: str, *, who: str, reason: str) -> bool:
    """Let its tasks be claimed again; False if there is no such queue."""
    cursor.execute(sql["resume_queue"], {"queue": queue, "who": who, "reason": reason})
    value: bool = _value(cursor)
    return value


def limit(sql: Mapping[str, str], cursor: Cursor, queue: str, most: int | None, *, who: str, reason: str) -> bool:
    """Let so many tasks of it run at a time, None for any number; False if there is no such queue."""
    cursor.execute(sql["limit_queue"], {"queue": queue, "most": most, "who": who, "reason": reason})
    return bool(_value(cursor))


def weigh(sql: Mapping[str, str], cursor: Cursor, queue: str, weight: float, *, who: str, reason: str) -> bool:
    """Let it come first so much more often than others of its priority; False if there is no such queue."""
    cursor.execute(sql["weigh_queue"], {"queue": queue, "weight": weight, "who": who, "reason": reason})
    return bool(_value(cursor))


def exists(sql: Mapping[str, str], cursor: Cursor, queue: str) -> bool:
    """Tell whether there is such a queue."""
    cursor.execute(sql["queue_exists"], {"queue": queue})
    value: bool = _value(cursor)
    return value


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
