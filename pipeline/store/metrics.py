"""Statements that monitoring asks again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits and runs in a queue, and for how many seconds the oldest has; 0 where there is none."""

    queue: str
    is_paused: bool
    scheduled: int
    queued: int
    parked: int
    running: int
    queued_seconds: float
    parked_seconds: float
    running_seconds: float


@dataclass(frozen=True, slots=True)
class Total:
    """How the runs of an actor ended since the beginning. The histograms are cumulative, their last count is all."""

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
    wait_seconds: float
    run_seconds: float
    waits: list[int]
    runs: list[int]


@dataclass(frozen=True, slots=True)
class Fleet:
    """All worker processes together."""

    alive: int
    draining: int
    #: Those that ended within the last hour.
    stopped: int
    dead: int
    threads: int
    running: int
    oldest_beat_seconds: float
    claims: int


@dataclass(frozen=True, slots=True)
class Schedulers:
    """All schedules and all daemons together."""

    active: int
    paused: int
    alive: int
    #: Those that ended within the last hour.
    stopped: int
    dead: int
    #: Schedules that are due and that a daemon cannot fire.
    failing: int


@dataclass(frozen=True, slots=True)
class Firings:
    """What became of the instants of a schedule."""

    schedule: str
    fired: int
    left_out: int
    missed: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who makes the server keep dead rows."""

    kind: str
    name: str
    #: In transactions.
    age: int | None
    seconds: float | None
    #: Since its last statement began.
    query_seconds: float | None


def limit_time(sql: Mapping[str, str], cursor: Cursor, seconds: float) -> None:
    """Let each statement of the cursor's transaction take no longer than this."""
    cursor.execute(sql["limit_time"], {"ms": round(seconds * 1000)})


def depths(sql: Mapping[str, str], cursor: Cursor, *, limit: int) -> list[Depth]:
    """Count what waits and runs in each queue, up to a limit in each of its lanes."""
    cursor.execute(sql["metric_depths"], {"limit": limit})
    return [Depth(*row) for row in cursor.fetchall()]


def totals(sql: Mapping[str, str], cursor: Cursor) -> list[Total]:
    """Read how runs ended since the beginning."""
    cursor.execute(sql["metric_totals"])
    return [Total(*row) for row in cursor.fetchall()]


def bounds(sql: Mapping[str, str], cursor: Cursor) -> list[float]:
    """Read up to how many seconds each bucket of the histograms reaches."""
    cursor.execute(sql["metric_bounds"])
    ((found,),) = cursor.fetchall()
    return list(found)


def fleet(sql: Mapping[str, str], cursor: Cursor) -> Fleet:
    """Count the workers, and what they do."""
    cursor.execute(sql["metric_workers"])
    (row,) = cursor.fetchall()
    return Fleet(*row)


def schedulers(sql: Mapping[str, str], cursor: Cursor) -> Schedulers:
    """Count the schedules and the daemons."""
    cursor.execute(sql["metric_schedulers"])
    (row,) = cursor.fetchall()
    return Schedulers(*row)


def firings(sql: Mapping[str, str], cursor: Cursor) -> list[Firings]:
    """Read how many instants of each schedule were fired, left out and missed since the beginning."""
    cursor.execute(sql["metric_firings"])
    return [Firings(*row) for row in cursor.fetchall()]


def dead_rows(sql: Mapping[str, str], cursor: Cursor) -> int:
    """Count the dead rows of ``ready``, as far as the server has noticed."""
    cursor.execute(sql["metric_dead_rows"])
    (count,) = cursor.fetchone() or (0,)
    return int(count)


def partitions_ahead(sql: Mapping[str, str], cursor: Cursor) -> dict[str, int]:
    """Count the weeks after this one that have their partition, by table."""
    cursor.execute(sql["metric_partitions"])
    return dict(cursor.fetchall())


def horizon(sql: Mapping[str, str], cursor: Cursor) -> list[Holder]:
    """List who makes the server keep dead rows, the oldest of each kind first."""
    cursor.execute(sql["horizon_holders"])
    return [Holder(*row) for row in cursor.fetchall()]
