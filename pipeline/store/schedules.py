"""Statements about schedules: what is enqueued when it is due, and which instants are done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.context import NewTask
    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One row of the view ``schedule_status``."""

    name: str
    #: ``active`` or ``paused``.
    state: str
    #: ``cron``, ``interval``, ``calendar`` or ``once``, and what that reads.
    kind: str
    expression: str
    timezone: str
    actor: str
    #: None: the actor's, also for the priority.
    queue: str | None
    priority: int | None
    args: list[Any]
    kwargs: dict[str, Any]
    #: Of its messages, besides the tags.
    options: dict[str, Any]
    tags: list[str]
    description: str
    #: What is done about instants that nobody fired in time: ``skip``, ``once``, ``all``.
    missed: str
    max_age_seconds: int | None
    grace_seconds: int
    #: What is done if its task of an earlier instant has not ended: ``allow``, ``skip``, ``queue``, ``cancel``.
    overlap: str
    jitter_seconds: int
    gap: str
    fold: str
    anchor_at: datetime
    starts_at: datetime | None
    ends_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    #: Every instant up to this one is dealt with.
    done_until: datetime
    last_due_at: datetime | None
    last_fired_at: datetime | None
    last_task_id: str | None
    last_state: str | None
    #: The module that declares it; None: it was made at run time.
    declared_by: str | None
    created_at: datetime
    updated_at: datetime
    updated_by: str
    version: int
    schedule_id: int


@dataclass(frozen=True, slots=True)
class FiringRow:
    """One row of the view ``schedule_firings``."""

    schedule: str
    due_at: datetime
    fired_at: datetime
    #: ``fired``, ``left out`` (an earlier task had not ended), ``missed``.
    outcome: str
    #: How many instants it stands for, if they were missed.
    instants: int
    is_manual: bool
    fired_by: str
    task_id: str | None
    #: That of its task; ``gone`` if it was deleted with its week.
    state: str | None


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One row of the view ``scheduler_status``."""

    scheduler_id: int
    state: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    ended_at: datetime | None
    #: By how much its clock is ahead of the database's.
    clock_off: timedelta
    #: Schedules that are due and that it cannot fire, such as those of actors it does not know.
    failing: list[str]


@dataclass(frozen=True, slots=True)
class Beat:
    """What a daemon says of itself."""

    host: str
    pid: int
    #: What time it is by its clock.
    clock: datetime
    #: The schedules that are due and that it cannot fire.
    failing: Sequence[str] = ()
    #: How many instants it has dealt with since the last beat, by schedule and letter of the outcome.
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What of one schedule is to be fired at once, computed from what was read of it."""

    schedule_id: int
    version: int
    #: How far it had come.
    done: datetime
    #: The last instant of all of these.
    until: datetime
    #: The task of each instant that is fired.
    tasks: Sequence[tuple[datetime, NewTask]]
    #: The last of those that were missed, all of them before the first task; and how many they are.
    missed: datetime | None = None
    instants: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """A schedule that is to be made or changed."""

    name: str
    #: Columns by name, as JSON has them; those that are not named stay as they are.
    definition: Mapping[str, Any]
    declared_by: str | None = None
    #: The version it must have; 0: it must not exist.
    expected: int | None = None
    #: Whether it is paused when it is made.
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of it."""

    #: ``fired``; ``stale``: read it again; ``busy``: somebody is at it; ``early``: not due by the database's clock.
    state: str
    fired: int
    left_out: int


def versions(sql: Mapping[str, str], cursor: Cursor) -> tuple[dict[int, int], datetime]:
    """Tell the version of each schedule that is not paused, and what time it is."""
    cursor.execute(sql["schedule_versions"])
    rows = cursor.fetchall()
    return {number: version for number, version, _ in rows if number is not None}, rows[-1][2]


def schedules(
    sql: Mapping[str, str], cursor: Cursor, *, name: str | None = None, ids: Sequence[int] | None = None
) -> list[ScheduleRow]:
    """List schedules by name."""
    cursor.execute(sql["schedules"], {"name": name, "ids": None if ids is None else list(ids)})
    return [ScheduleRow(*row) for row in cursor.fetchall()]


def hold(sql: Mapping[str, str], cursor: Cursor, name: str) -> None:
    """Keep a schedule as it is until the end of the transaction: it is not fired, either."""
    cursor.execute(sql["hold_schedule"], {"name": name})


def to_fire(sql: Mapping[str, str], cursor: Cursor, schedule_id: int) -> ScheduleRow | None:
    """Read one schedule, but nothing of its last task; None if there is no such schedule."""
    cursor.execute(sql["schedule_to_fire"], {"id": schedule_id})
    row = cursor.fetchone()
    return None if row is None else ScheduleRow(*row)


def beat(sql: Mapping[str, str], cursor: Cursor, scheduler_id: int | None, said: Beat) -> tuple[int | None, datetime]:
    """Say that a daemon lives; its number, and the database's time."""
    counts = [{"schedule": name, "outcome": letter, "instants": n} for (name, letter), n in said.counts.items()]
    cursor.execute(
        sql["beat_scheduler"],
        {
            "scheduler": scheduler_id,
            "host": said.host,
            "pid": said.pid,
            "clock": said.clock,
            "failing": list(said.failing),
            "counts": json.dumps(counts),
            "ends": said.ends,
        },
    )
    number, now = cursor.fetchall()[0]
    return number, now


def schedulers(sql: Mapping[str, str], cursor: Cursor, *, limit: int = 20) -> list[SchedulerRow]:
    """List daemons, the newest first."""
    cursor.execute(sql["schedulers"], {"limit": limit})
    return [SchedulerRow(*row) for row in cursor.fetchall()]


def fire(sql: Mapping[str, str], cursor: Cursor, due: Due, *, by: str) -> Fired:
    """Write instants and their tasks, in one statement; see ``fire_v1``."""
    cursor.execute(
        sql["fire"],
        {
            "schedule": due.schedule_id,
            "version": due.version,
            "done": due.done,
            "until": due.until,
            "tasks": json.dumps([_as_json(task, due_at) for due_at, task in due.tasks]),
            "missed": due.missed,
            "instants": due.instants,
            "by": by,
        },
    )
    return Fired(*cursor.fetchall()[0])


def run(
    sql: Mapping[str, str], cursor: Cursor, name: str, version: int, task: NewTask, by: By
) -> tuple[str, str | None]:
    """Enqueue a schedule's task now: a state and a task, see ``run_schedule_v1``."""
    parameters = {"name": name, "version": version, "task": json.dumps(_as_json(task)), **by.parameters}
    cursor.execute(sql["run_schedule"], parameters)
    state, message_id = cursor.fetchall()[0]
    return state, message_id


def put(sql: Mapping[str, str], cursor: Cursor, schedule: Put, *, by: By) -> str:
    """Make or change a schedule: made, changed, same, conflict or declared; see ``put_schedule_v1``."""
    cursor.execute(
        sql["put_schedule"],
        {
            "name": schedule.name,
            "definition": json.dumps(schedule.definition),
            "declared_by": schedule.declared_by,
            "expected": schedule.expected,
            "paused": schedule.paused,
            **by.parameters,
        },
    )
    return _text(cursor)


def pause(sql: Mapping[str, str], cursor: Cursor, name: str, *, by: By) -> bool:
    """Fire no instants of a schedule; False if there is none."""
    cursor.execute(sql["pause_schedule"], {"name": name, **by.parameters})
    return bool(cursor.fetchall()[0][0])


def resume(sql: Mapping[str, str], cursor: Cursor, name: str, *, by: By) -> bool:
    """Fire them again, from now on; False if there is none."""
    cursor.execute(sql["resume_schedule"], {"name": name, **by.parameters})
    return bool(cursor.fetchall()[0][0])


def remove(sql: Mapping[str, str], cursor: Cursor, name: str, *, by: By, declared_by: str | None = None) -> str:
    """Remove a schedule: ``removed``, ``unknown`` or ``declared`` (by another module)."""
    cursor.execute(sql["remove_schedule"], {"name": name, "declared_by": declared_by, **by.parameters})
    return _text(cursor)


def firings(
    sql: Mapping[str, str],
    cursor: Cursor,
    schedule: str | None,
    *,
    before: datetime | None = None,
    before_due: datetime | None = None,
    limit: int = 50,
) -> list[FiringRow]:
    """List what was fired, left out and missed, newest first: before then; of what was then, what was due before."""
    parameters = {"schedule": schedule, "before": before, "before_due": before_due, "limit": limit}
    cursor.execute(sql["firings"], parameters)
    return [FiringRow(*row) for row in cursor.fetchall()]


def _as_json(task: NewTask, due_at: datetime | None = None) -> dict[str, Any]:
    """Write a task as ``fire_v1`` reads it."""
    return {
        "due_at": None if due_at is None else due_at.isoformat(),
        "m": task.message_id,
        "q": task.queue,
        "p": task.priority,
        "a": task.actor,
        "b": json.loads(task.payload),
        "k": None if task.keys is None else json.loads(task.keys),
        "l": None if task.labels is None else json.loads(task.labels),
    }


def _text(cursor: Cursor) -> str:
    return str(cursor.fetchall()[0][0])
