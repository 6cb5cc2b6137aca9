"""Statements about tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pipeline.states import Outcome, TaskState

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.context import NewTask
    from pipeline.store.audit import By

#: What to do with a message id that is known already: see ``sql/functions/10_enqueue.sql``.
Mode = Literal["n", "r", "u", "f"]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row of the view ``task_status``, column by column; JSON is text."""

    task_id: str
    actor: str
    queue: str
    state: TaskState
    attempt: int
    #: Percent.
    progress: int
    note: str
    step: str | None
    done: int | None
    total: int | None
    progress_at: datetime | None
    #: When it will have ended, if it goes on as it has so far.
    expected_at: datetime | None
    result: str | None
    error: str | None
    created_at: datetime
    eta: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: int | None
    thread: int | None
    #: When its worker was last heard of, if that has fallen silent.
    last_seen_at: datetime | None
    priority: int
    tags: list[str]
    entity: str | None
    tenant: str | None
    correlation_id: str | None
    parent_id: str | None
    args: str
    kwargs: str
    id: int
    waits_for: str | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """What a task was enqueued with; where it would wait now."""

    queue: str
    priority: int
    actor: str
    payload: str
    #: JSON, or None.
    keys: str | None
    #: The same.
    labels: str | None
    #: Whether some tasks of its queue have gates to go through.
    is_gated: bool


@dataclass(frozen=True, slots=True)
class Alike:
    """New tasks that differ in their ids, payloads and labels only.

    The ids are parted by commas, the payloads by line ends, and so are the labels, if any of them has some.
    """

    queue: str
    priority: int
    actor: str
    delay_ms: int | None
    parent: int | None
    message_ids: str
    payloads: str
    labels: str | None


#: What a command returns that has done what it was asked for.
DONE = "done"


def as_task_id(text: str) -> str | None:
    """Return an id as the store writes it; None for what cannot be the id of a task."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def ensure_lane(
    sql: Mapping[str, str],
    cursor: Cursor,
    queue: str,
    priority: int,
    is_gated: bool = False,
) -> None:
    """Make a queue and its lane, in a transaction of their own; gated if some of its tasks have gates."""
    cursor.execute(sql["ensure_lane"], {"queue": queue, "priority": priority, "is_gated": is_gated})


def prepare_enqueue(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Let the cursor's session parse and plan enqueues of one task once."""
    cursor.execute(sql["prepare_enqueue"])


def enqueue(
    sql: Mapping[str, str],
    cursor: Cursor,
    task: NewTask,
    *,
    mode: Mode = "u",
    since_ms: float | None = None,
    notify: bool = False,
    is_prepared: bool = False,
) -> str:
    """Insert one task on the transaction the cursor has; return the id of the message that stands for it."""
    cursor.execute(
        sql["execute_enqueue" if is_prepared else "enqueue"],
        {
            "message_id": task.message_id,
            "queue": task.queue,
            "priority": task.priority,
            "actor": task.actor,
            "delay_ms": task.delay_ms,
            "payload": task.payload,
            "mode": mode,
            "since_ms": since_ms,
            "notify": notify,
            "parent": task.parent,
            "keys": task.keys,
            "labels": task.labels,
        },
    )
    value: str = _value(cursor)
    return value


def enqueue_many(
    sql: Mapping[str, str],
    cursor: Cursor,
    tasks: str,
    *,
    mode: Mode = "u",
    since_ms: float | None = None,
    notify: bool = False,
) -> dict[str, str]:
    """Insert many tasks (the JSON of ``messages.as_json``) in one statement.

    Returns:
        The ids of messages for which another one stands, and of that one.
    """
    cursor.execute(sql["enqueue_many"], {"tasks": tasks, "mode": mode, "since_ms": since_ms, "notify": notify})
    return _value(cursor) or {}


def enqueue_alike(sql: Mapping[str, str], cursor: Cursor, alike: Alike, *, notify: bool = False) -> None:
    """Insert tasks that differ in their payloads and labels only, and whose ids nobody else has."""
    cursor.execute(
        sql["enqueue_alike"],
        {
            "queue": alike.queue,
            "priority": alike.priority,
            "actor": alike.actor,
            "delay_ms": alike.delay_ms,
            "message_ids": alike.message_ids,
            "payloads": alike.payloads,
            "labels": alike.labels,
            "parent": alike.parent,
            "notify": notify,
        },
    )


def create_group(sql: Mapping[str, str], cursor: Cursor, group_id: str, size: int, message_ids: Sequence[str]) -> None:
    """Make a group of ``size`` members, which are made of these messages."""
    cursor.execute(sql["create_group"], {"group_id": group_id, "size": size, "message_ids": list(message_ids)})


def prepare_seal(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Let the cursor's session parse and plan seals once."""
    cursor.execute(sql["prepare_seal"])


def sealing(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    is_prepared: bool,
    outcome: Outcome,
    ttl: int | None,
    extra: str | None,
    **run: float,
) -> str:
    """Write the statement that concludes one run in its actor's transaction, for whoever commits it.

    Numbers and a letter are put in by hand, which takes psycopg2 ten times as long.
    """
    values = {
        "outcome": f"'{outcome.value}'",
        "ttl": "NULL" if ttl is None else ttl,
        "extra": "NULL" if extra is None else cursor.mogrify("%s", (extra,)).decode(),
    }
    return sql["execute_seal" if is_prepared else "seal_run"] % (run | values)


def was_concluded(sql: Mapping[str, str], cursor: Cursor, task_id: int, run: int) -> bool:
    """Tell whether a run was concluded, waiting for a transaction that is about to say so."""
    cursor.execute(sql["was_concluded"], {"task_id": task_id, "run": run})
    value: bool = _value(cursor)
    return value


def snooze(sql: Mapping[str, str], cursor: Cursor, message_id: str, delay_ms: int, by: By) -> str | None:
    """Let a waiting task wait for so long at least.

    As the functions after it, it returns DONE, or the state that stands in the way, or None for an unknown id.
    """
    return _command(cursor, sql["snooze_task"], message_id, by, delay_ms=delay_ms)


def reschedule(sql: Mapping[str, str], cursor: Cursor, message_id: str, eta: datetime, by: By) -> str | None:
    """Let a waiting task be due at another time."""
    return _command(cursor, sql["reschedule_task"], message_id, by, eta=eta)


def reprioritise(sql: Mapping[str, str], cursor: Cursor, message_id: str, priority: int, by: By) -> str | None:
    """Give a waiting task another priority."""
    return _command(cursor, sql["reprioritise_task"], message_id, by, priority=priority)


def move(sql: Mapping[str, str], cursor: Cursor, message_id: str, queue: str, by: By) -> str | None:
    """Let a waiting task wait in another queue."""
    return _command(cursor, sql["move_task"], message_id, by, queue=queue)


def retry(sql: Mapping[str, str], cursor: Cursor, message_id: str, by: By, *, again: bool) -> str | None:
    """Let a task that waits or has ended run now."""
    return _command(cursor, sql["retry_task"], message_id, by, again=again)


def _command(cursor: Cursor, statement: str, message_id: str, by: By, **more: Any) -> str | None:
    cursor.execute(statement, {"message_id": message_id, **by.parameters, **more})
    value: str | None = _value(cursor)
    return value


def read(sql: Mapping[str, str], cursor: Cursor, message_id: str) -> StoredMessage | None:
    """Read what a task was enqueued with."""
    cursor.execute(sql["read_task"], {"message_id": message_id})
    row = cursor.fetchone()
    return None if row is None else StoredMessage(*row)


def clone(sql: Mapping[str, str], cursor: Cursor, task: NewTask, *, parent: str, by: By) -> str:
    """Enqueue a message that was made of another task's; return the id of the message that stands for it."""
    cursor.execute(
        sql["clone_task"],
        {
            "parent": parent,
            "message_id": task.message_id,
            "queue": task.queue,
            "priority": task.priority,
            "actor": task.actor,
            "delay_ms": task.delay_ms,
            "payload": task.payload,
            "keys": task.keys,
            "labels": task.labels,
            **by.parameters,
        },
    )
    value: str = _value(cursor)
    return value


def flush(sql: Mapping[str, str], cursor: Cursor, queue: str, by: By) -> int:
    """Cancel all that waits in a queue; return how many."""
    cursor.execute(sql["flush_queue"], {"queue": queue, **by.parameters})
    value: int = _value(cursor)
    return value


def pending(sql: Mapping[str, str], cursor: Cursor, queue: str) -> int:
    """Count the tasks of a queue that wait (due or not) or run."""
    cursor.execute(sql["pending_tasks"], {"queue": queue})
    value: int = _value(cursor)
    return value


def status(sql: Mapping[str, str], cursor: Cursor, message_id: str) -> TaskRow | None:
    """Read one task as people see it."""
    cursor.execute(sql["task_status"], {"message_id": message_id})
    return next(iter(as_tasks(cursor)), None)


def as_tasks(cursor: Cursor) -> list[TaskRow]:
    """Make tasks of all rows of the view that a cursor holds."""
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [task_of(row) for row in rows]


def task_of(row: Mapping[str, Any]) -> TaskRow:
    """Make a task of the columns of the view."""
    return TaskRow(**{**row, "state": TaskState(row["state"])})


def open_checkpoint(sql: Mapping[str, str], cursor: Cursor, task_id: int, run: int) -> str | None:
    """Take over a checkpoint for this run; return its cursor as JSON text."""
    cursor.execute(sql["open_checkpoint"], {"task_id": task_id, "run": run})
    value: str | None = _value(cursor)
    return value


def save_checkpoint(sql: Mapping[str, str], cursor: Cursor, task_id: int, run: int, position: str) -> bool:
    """Save a step's cursor under the task's fence; False if the run is over."""
    cursor.execute(sql["save_checkpoint"], {"task_id": task_id, "run": run, "cursor": position})
    value: bool = _value(cursor)
    return value


def report_progress(sql: Mapping[str, str], cursor: Cursor, reports: str) -> int:
    """Write the latest progress of many tasks; return how many of them are known."""
    cursor.execute(sql["report_progress"], {"reports": reports})
    value: int = _value(cursor)
    return value


def repair_ready(sql: Mapping[str, str], cursor: Cursor, by: By) -> int:
    """Let every unfinished task wait again that neither waits nor is claimed; return how many there were."""
    cursor.execute(sql["repair_ready"], by.parameters)
    value: int = _value(cursor)
    return value


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
