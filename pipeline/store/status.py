"""Statements that answer what people ask: which tasks, which queues, which workers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.states import FINAL_STATES, Outcome, TaskState
from pipeline.store.tasks import TaskRow, as_tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: States of tasks that something will still happen to.
ACTIVE_STATES = frozenset(TaskState) - FINAL_STATES


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task in the hands of a worker."""

    worker_id: int
    #: In which of the worker's threads it runs; None if it does not, or nobody knows.
    thread: int | None
    task_id: str
    actor: str
    queue: str
    priority: int
    run: int
    #: Attempts that have ended before this run.
    attempt: int
    #: What this run has reported, in percent.
    progress: int
    note: str
    step: str | None
    #: When it began to run, or, as long as it does not, when it was claimed.
    since: datetime
    #: When its worker was last heard of, if that is too long ago.
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """How one run of a task ended."""

    run: int
    attempt: int
    outcome: Outcome
    worker_id: int | None
    host: str | None
    pid: int | None
    started_at: datetime | None
    finished_at: datetime
    next_eta: datetime | None
    #: How long it was due before it began, and how long it ran.
    wait_seconds: float | None
    run_seconds: float | None
    error_type: str | None
    error_message: str | None
    traceback: str | None
    #: Why it ended without success, see ``attempt_history``.
    reason: str | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """What waits and runs in one queue."""

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


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker process."""

    worker_id: int
    state: str
    host: str
    pid: int
    threads: int
    queues: list[str]
    started_at: datetime
    beat_at: datetime
    ended_at: datetime | None
    #: Tasks that had started at its last beat.
    running: int
    #: Tasks it has taken, started or not.
    claimed: int
    #: Processes in its place that had died young before it, one after the other.
    crashes: int
    #: When somebody wanted it to claim nothing more and to end.
    drain_at: datetime | None
    drained_by: str | None
    drain_reason: str | None
    #: What runs in it, the oldest first: task_id, actor, started_at, seconds.
    tasks: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tasks are meant: those that match all of what is given; None is whatever it may be."""

    states: Collection[TaskState] | None = None
    actor: str | None = None
    queue: str | None = None
    tag: str | None = None
    entity: str | None = None
    tenant: str | None = None
    correlation_id: str | None = None
    #: The id of the task that enqueued them.
    parent: str | None = None


_ANY = Filters()


def find(
    sql: Mapping[str, str], cursor: Cursor, filters: Filters = _ANY, *, before: str | None = None, limit: int = 20
) -> list[TaskRow]:
    """List the newest tasks that match, newest first; those that are older than the task ``before``, if it is known."""
    states = None if filters.states is None else [state.value for state in filters.states]
    wanted = {each.name: getattr(filters, each.name) for each in fields(filters)}
    cursor.execute(sql["find_tasks"], wanted | {"states": states, "before": before, "limit": limit})
    return as_tasks(cursor)


def started(sql: Mapping[str, str], cursor: Cursor, *, limit: int = 100) -> list[HeldTask]:
    """List what runs, the oldest first; not what has begun just now."""
    return _held(sql["started_tasks"], cursor, limit)


def reserved(sql: Mapping[str, str], cursor: Cursor, *, limit: int = 100) -> list[HeldTask]:
    """List what workers have claimed and what does not run, the oldest first."""
    return _held(sql["reserved_tasks"], cursor, limit)


def _held(statement: str, cursor: Cursor, limit: int) -> list[HeldTask]:
    cursor.execute(statement, {"limit": limit})
    return [HeldTask(*row) for row in cursor.fetchall()]


def attempts(
    sql: Mapping[str, str], cursor: Cursor, task_id: str, *, after: int = 0, limit: int | None = None
) -> list[AttemptRow]:
    """List how the runs of a task ended, in their order: those after a run."""
    cursor.execute(sql["task_attempts"], {"task_id": task_id, "after": after, "limit": limit})
    return [AttemptRow(run, attempt, Outcome[word.upper()], *rest) for run, attempt, word, *rest in cursor.fetchall()]


def queues(sql: Mapping[str, str], cursor: Cursor) -> list[QueueRow]:
    """List all queues."""
    cursor.execute(sql["queues"])
    return [QueueRow(*row) for row in cursor.fetchall()]


def workers(sql: Mapping[str, str], cursor: Cursor) -> list[WorkerRow]:
    """List the workers that are alive, then those that ended within the last hour."""
    cursor.execute(sql["workers"])
    return _workers(cursor)


def list_workers(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    states: Collection[str] | None = None,
    host: str | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[WorkerRow]:
    """List workers, the newest first: in some states, of a host, registered before one."""
    chosen = {"states": None if states is None else list(states), "host": host, "worker_id": None}
    cursor.execute(sql["list_workers"], chosen | {"before": before, "limit": limit})
    return _workers(cursor)


def worker(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> WorkerRow | None:
    """Read one worker; None if there is none, or none any more."""
    anywhere = {"states": None, "host": None, "before": None, "limit": 1}
    cursor.execute(sql["list_workers"], anywhere | {"worker_id": worker_id})
    return next(iter(_workers(cursor)), None)


def _workers(cursor: Cursor) -> list[WorkerRow]:
    return [WorkerRow(*(*columns, json.loads(tasks))) for *columns, tasks in cursor.fetchall()]


def count_ready_workers(sql: Mapping[str, str], cursor: Cursor, *, seconds: float, host: str | None = None) -> int:
    """Count the workers (of one host) that were heard of within the last seconds and do not die all the time."""
    cursor.execute(sql["count_ready_workers"], {"seconds": seconds, "host": host})
    (count,) = cursor.fetchone() or (0,)
    return int(count)
