"""Statements about the counters of how runs ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Throughput:
    """How runs ended within a span of time."""

    #: When it begins.
    span: datetime
    #: Empty where all are counted together.
    queue: str
    actor: str
    started: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    skipped: int
    interrupted: int
    lost: int
    mean_wait_seconds: float | None
    mean_run_seconds: float | None


@dataclass(frozen=True, slots=True)
class Spans:
    """Which spans of time are meant, and whose runs."""

    seconds: int
    by_queue: bool = False
    by_actor: bool = False
    #: From then on (an hour ago), and before then.
    since: datetime | None = None
    until: datetime | None = None
    queue: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """What has failed lately with an error."""

    queue: str
    actor: str
    error_type: str
    failures: int
    first_seen: datetime
    last_seen: datetime
    #: Of the last of them.
    error_message: str | None
    last_task_id: str


def add(sql: Mapping[str, str], cursor: Cursor, rows: str) -> None:
    """Add what a process counted: rows of ``stat_minute`` as JSON, in any order."""
    cursor.execute(sql["add_stats"], {"rows": rows})


def fold(sql: Mapping[str, str], cursor: Cursor, limit: int) -> int:
    """Add so much of what was put aside by those who concluded it; return how much it was."""
    cursor.execute(sql["fold_stats"], {"limit": limit})
    (count,) = cursor.fetchone() or (0,)
    return int(count)


def join_totals(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Put the rows of the totals together that nobody adds to any more."""
    cursor.execute(sql["join_totals"])


def throughput(
    sql: Mapping[str, str],
    cursor: Cursor,
    spans: Spans,
    *,
    after: tuple[datetime, str, str] | None = None,
    limit: int | None = None,
) -> list[Throughput]:
    """List how runs ended within spans of time, the oldest first: those after the row of a span, queue and actor."""
    after_span, after_queue, after_actor = after or (None, None, None)
    chosen = {
        "span_seconds": spans.seconds,
        "by_queue": spans.by_queue,
        "by_actor": spans.by_actor,
        "since": spans.since,
        "until": spans.until,
        "queue": spans.queue,
        "actor": spans.actor,
        "limit": limit,
    }
    place = {"after_span": after_span, "after_queue": after_queue, "after_actor": after_actor}
    cursor.execute(sql["throughput"], chosen | place)
    return [Throughput(*row) for row in cursor.fetchall()]


def failures(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    queue: str | None = None,
    actor: str | None = None,
    after: tuple[str, str, str] | None = None,
    limit: int | None = None,
) -> list[Failures]:
    """List what has failed lately, by queue, actor and error: what comes after such a row."""
    after_queue, after_actor, after_error = after or (None, None, None)
    place = {"after_queue": after_queue, "after_actor": after_actor, "after_error": after_error}
    cursor.execute(sql["failures"], {"queue": queue, "actor": actor, "limit": limit} | place)
    return [Failures(*row) for row in cursor.fetchall()]
