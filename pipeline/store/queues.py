"""Statements about whole queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The settings of one queue, and what waits and runs in it."""

    queue: str
    is_paused: bool
    queued: int
    scheduled: int
    running: int
    #: How many of the queued ones a worker has taken.
    reserved: int
    oldest_due: datetime | None
    paused_by: str | None
    pause_reason: str | None
    #: When a pause ends by itself.
    resume_at: datetime | None
    #: How many of its tasks may run at a time; None for any number.
    max_running: int | None
    #: How much more often it comes first than others of its priority.
    weight: float
    #: How many of the queued ones wait at a gate.
    parked: int
    #: Or there are more: they were counted up to a limit.
    is_exact: bool


def depths(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    queue: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    most: int | None = None,
) -> list[QueueDepth]:
    """List queues by their names, those after one, or one of them; count up to ``most`` in each lane and state."""
    chosen = {"queue": queue, "after": after, "limit": limit, "most": most}
    cursor.execute(sql["list_queues"], chosen)
    return [QueueDepth(*row) for row in cursor.fetchall()]


def hold(sql: Mapping[str, str], cursor: Cursor, queue: str) -> None:
    """Keep the settings of a queue as they are until the end of the transaction."""
    cursor.execute(sql["hold_queue"], {"queue": queue})


def pause(sql: Mapping[str, str], cursor: Cursor, queue: str, *, by: By, resume_after_ms: int | None) -> bool:
    """Let nothing be claimed from a queue; False if there is no such queue."""
    cursor.execute(sql["pause_queue"], {"queue": queue, "resume_after_ms": resume_after_ms, **by.parameters})
    value: bool = _value(cursor)
    return value


def resume(sql: Mapping[str, str], cursor: Cursor, queue: str, *, by: By) -> bool:
    """Let its tasks be claimed again; False if there is no such queue."""
    cursor.execute(sql["resume_queue"], {"queue": queue, **by.parameters})
    value: bool = _value(cursor)
    return value


def limit(sql: Mapping[str, str], cursor: Cursor, queue: str, most: int | None, *, by: By) -> bool:
    """Let so many tasks of it run at a time, None for any number; False if there is no such queue."""
    cursor.execute(sql["limit_queue"], {"queue": queue, "most": most, **by.parameters})
    return bool(_value(cursor))


def weigh(sql: Mapping[str, str], cursor: Cursor, queue: str, weight: float, *, by: By) -> bool:
    """Let it come first so much more often than others of its priority; False if there is no such queue."""
    cursor.execute(sql["weigh_queue"], {"queue": queue, "weight": weight, **by.parameters})
    return bool(_value(cursor))


def exists(sql: Mapping[str, str], cursor: Cursor, queue: str) -> bool:
    """Tell whether there is such a queue."""
    cursor.execute(sql["queue_exists"], {"queue": queue})
    value: bool = _value(cursor)
    return value


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
