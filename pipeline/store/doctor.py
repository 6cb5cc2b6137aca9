"""Statements that ask whether everything is as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class SilentWorker:
    """A worker that should be alive."""

    worker_id: int
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CountedRuns:
    """How many runs ended in some minutes, by two who must agree."""

    #: Of the newest tasks.
    attempts: int
    #: Whether there are no others.
    is_complete: bool
    counted: int
    #: Workers that ended meanwhile.
    ended_workers: int


@dataclass(frozen=True, slots=True)
class IdleGate:
    """A gate at which tasks wait for nothing."""

    gate: str
    tasks: int
    first_id: int


def silent_workers(sql: Mapping[str, str], cursor: Cursor, *, lease_seconds: float) -> list[SilentWorker]:
    """List the workers that have not beaten for longer than a lease."""
    cursor.execute(sql["silent_workers"], {"lease_seconds": lease_seconds})
    return [SilentWorker(*row) for row in cursor.fetchall()]


def orphaned_claims(sql: Mapping[str, str], cursor: Cursor) -> dict[int, int]:
    """Count the tasks held in the name of workers that are not alive."""
    cursor.execute(sql["orphaned_claims"])
    return dict(cursor.fetchall())


def stray_rows(sql: Mapping[str, str], cursor: Cursor) -> list[str]:
    """List the tables with rows of this week or a later one in their default partition."""
    cursor.execute(sql["stray_rows"])
    return [table for (table,) in cursor.fetchall()]


def counted_runs(sql: Mapping[str, str], cursor: Cursor, *, limit: int) -> CountedRuns:
    """Compare the counters of the last minutes with the newest attempts."""
    cursor.execute(sql["counted_runs"], {"limit": limit})
    (row,) = cursor.fetchall()
    return CountedRuns(*row)


def lost_tasks(sql: Mapping[str, str], cursor: Cursor, *, limit: int) -> tuple[int, str | None]:
    """Count those of the newest tasks that neither wait nor are held nor have ended; and name one."""
    cursor.execute(sql["lost_tasks"], {"limit": limit})
    ((count, task_id),) = cursor.fetchall()
    return count, task_id


def idle_gates(sql: Mapping[str, str], cursor: Cursor, *, limit: int) -> list[IdleGate]:
    """List the gates at which tasks are parked although nothing is in their way."""
    cursor.execute(sql["idle_gates"], {"limit": limit})
    return [IdleGate(*row) for row in cursor.fetchall()]


def stale_cancels(sql: Mapping[str, str], cursor: Cursor) -> int:
    """Count the requests to end tasks that have ended, or never were."""
    cursor.execute(sql["stale_cancels"])
    ((count,),) = cursor.fetchall()
    return int(count)


def unserved_queues(sql: Mapping[str, str], cursor: Cursor) -> dict[str, float]:
    """Tell for how many seconds tasks have been due in queues that no worker takes any from."""
    cursor.execute(sql["unserved_queues"])
    return dict(cursor.fetchall())


def unvacuumed(sql: Mapping[str, str], cursor: Cursor) -> list[str]:
    """List where autovacuum is turned off."""
    cursor.execute(sql["unvacuumed"])
    return [what for (what,) in cursor.fetchall()]


def connections(sql: Mapping[str, str], cursor: Cursor) -> tuple[int, int]:
    """Count the connections that clients have, and that they may have."""
    cursor.execute(sql["connections"])
    ((used, most),) = cursor.fetchall()
    return used, most


@dataclass(frozen=True, slots=True)
class SchedulerHealth:
    """How the scheduler daemons are."""

    #: Schedules that are not paused.
    schedules: int
    #: Daemons that are alive.
    alive: int
    #: Schedules that are due and that none of these can fire.
    failing: list[str]
    #: By how many seconds the clock is off that is so most, and whose it is.
    off_seconds: float
    off: str


def scheduler_health(sql: Mapping[str, str], cursor: Cursor) -> SchedulerHealth:
    """Look whether somebody fires the schedules."""
    cursor.execute(sql["scheduler_health"])
    (row,) = cursor.fetchall()
    return SchedulerHealth(*row)
