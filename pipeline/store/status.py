"""Statements that answer what people ask: which tasks, which queues, which workers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.states import FINAL_STATES, Outcome, TaskState
from pipeline.store.tasks import TaskRow, as_task

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: States of tasks that something will still happen to.
ACTIVE_STATES = frozenset(TaskState) - FINAL_STATES


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task in the hands of a worker."""

    worker_id: int
    task: TaskRow


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """How one run of a task ended."""

    run: int
    attempt: int
    outcome: Outcome
    worker_id: int | None
    started_at: datetime | None
    finished_at: datetime
    next_eta: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """What waits and runs in one queue."""

    queue: str
    is_paused: bool
    queued: int
    scheduled: int
    running: int
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


def newest(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    states: Collection[TaskState] = ACTIVE_STATES,
    after: str | None = None,
    limit: int = 20,
) -> list[TaskRow]:
    """List tasks in any of these states, newest first; those that are older than the task ``after``."""
    wanted = {
        "states": [state.value for state in states],
        "outcomes": [Outcome[state.name].value for state in FINAL_STATES.intersection(states)],
        "after": after,
        "limit": limit,
    }
    cursor.execute(sql["newest_tasks"], wanted)
    return [as_task(row) for row in cursor.fetchall()]


def started(sql: Mapping[str, str], cursor: Cursor, *, limit: int = 100) -> list[HeldTask]:
    """List what runs, as of the workers' last beats; oldest first."""
    return _held(sql["started_tasks"], cursor, limit)


def reserved(sql: Mapping[str, str], cursor: Cursor, *, limit: int = 100) -> list[HeldTask]:
    """List what workers have taken and not started, as of their last beats; oldest first."""
    return _held(sql["reserved_tasks"], cursor, limit)


def _held(statement: str, cursor: Cursor, limit: int) -> list[HeldTask]:
    cursor.execute(statement, {"limit": limit})
    return [HeldTask(worker_id, as_task(row)) for worker_id, *row in cursor.fetchall()]


def attempts(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> list[AttemptRow]:
    """List how the runs of a task ended."""
    cursor.execute(sql["task_attempts"], {"task_id": task_id})
    return [AttemptRow(run, attempt, Outcome(letter), *rest) for run, attempt, letter, *rest in cursor.fetchall()]


def queues(sql: Mapping[str, str], cursor: Cursor) -> list[QueueRow]:
    """List all queues."""
    cursor.execute(sql["queues"])
    return [QueueRow(*row) for row in cursor.fetchall()]


def workers(sql: Mapping[str, str], cursor: Cursor) -> list[WorkerRow]:
    """List the workers that are alive, then those that ended within the last hour."""
    cursor.execute(sql["workers"])
    return [WorkerRow(*(*columns, json.loads(tasks))) for *columns, tasks in cursor.fetchall()]


def count_ready_workers(sql: Mapping[str, str], cursor: Cursor, *, seconds: float, host: str | None = None) -> int:
    """Count the workers (of one host) that were heard of within the last seconds and do not die all the time."""
    cursor.execute(sql["count_ready_workers"], {"seconds": seconds, "host": host})
    (count,) = cursor.fetchone() or (0,)
    return int(count)
