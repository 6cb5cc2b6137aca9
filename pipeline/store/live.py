"""Statements that the live views ask about once a second, for everybody who watches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.store.tasks import TaskRow, as_tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: As many tasks in claims as a look tells of; with more it is not complete.
_CLAIMED = 2000


@dataclass(frozen=True, slots=True)
class Look:
    """What goes on at one moment; what was asked for since an earlier time holds the internal ids of tasks."""

    #: Whether all of what follows is there, and not only a part of it.
    is_complete: bool
    at: datetime
    #: The number of the last claim that was made, committed or not.
    claims: int
    #: The claims that are there.
    seen: frozenset[int]
    #: The tasks in them, those of these whose run has not ended, and those of these that run.
    claimed: frozenset[int]
    held: frozenset[int]
    running: frozenset[int]
    fresh: frozenset[int]
    due: frozenset[int]
    reported: frozenset[int]
    changed: frozenset[int]
    #: What operators have done that names no single task.
    sweeps: frozenset[int]


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """What waits and runs in one queue, and how its runs have ended since the beginning."""

    queue: str
    is_paused: bool
    queued: int
    scheduled: int
    parked: int
    running: int
    #: Whether more wait than were counted.
    is_capped: bool
    oldest_due: datetime | None
    started: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    skipped: int
    interrupted: int
    lost: int


def look(
    sql: Mapping[str, str], cursor: Cursor, *, since: datetime | None = None, overlap_seconds: float, most: int
) -> Look:
    """Look what goes on, and what is new since a time (now, if there was none) less so many seconds."""
    cursor.execute(sql["live_look"], {"since": since, "overlap": overlap_seconds, "most": most})
    ((at, claims, seen, claimed, *lists),) = cursor.fetchall()
    held, running, *news = lists
    is_complete = len(claimed) <= _CLAIMED and all(len(ids) <= most for ids in news)
    sets = [frozenset(ids) for ids in (seen, claimed, held, running, *news)]
    return Look(is_complete, at, claims, *sets)


def queues(sql: Mapping[str, str], cursor: Cursor, *, most: int) -> list[LiveQueue]:
    """List the queues; what waits is counted up to ``most`` in each lane."""
    cursor.execute(sql["live_queues"], {"most": most})
    return [LiveQueue(*row) for row in cursor.fetchall()]


def tasks(sql: Mapping[str, str], cursor: Cursor, ids: Collection[int]) -> list[TaskRow]:
    """Read tasks by their internal ids, without arguments and results; those that are gone by now are left out."""
    cursor.execute(sql["live_tasks"], {"ids": list(ids)})
    return as_tasks(cursor)
