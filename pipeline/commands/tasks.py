"""Postpone, move, repeat and copy single tasks.

Each works on the transaction the cursor has. A worker that claims at the same moment and the command never both get a
waiting task: either it is changed, or it runs and the command says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import delay_ms
from pipeline.errors import QueueUnknown, TaskConflict, TaskNotFound
from pipeline.store import queues, tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.context import NewTask
    from pipeline.store.audit import By
    from pipeline.store.tasks import StoredMessage

    #: Makes queues and lanes in a transaction of their own.
    EnsureLanes = Callable[[Iterable[tuple[str, int] | tuple[str, int, bool]]], None]

#: What a smallint holds.
_PRIORITIES = range(-32768, 32768)


def snooze(sql: Mapping[str, str], cursor: Cursor, task_id: str, *, for_: timedelta, by: By) -> None:
    """Let a waiting task wait for so long at least. No attempt counts.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: The time is negative.
    """
    milliseconds = delay_ms(for_.total_seconds())
    state = tasks.snooze(sql, cursor, _known(task_id), milliseconds, by)
    _settle(task_id, state, "only a waiting task can be postponed")


def reschedule(sql: Mapping[str, str], cursor: Cursor, task_id: str, *, eta: datetime, by: By) -> None:
    """Let a waiting task be due at another time; at once if that is over.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: The time has no time zone.
    """
    if eta.utcoffset() is None:
        message = f"The time {eta} has no time zone: say which instant it is"
        raise ValueError(message)
    state = tasks.reschedule(sql, cursor, _known(task_id), eta, by)
    _settle(task_id, state, "only a waiting task can be rescheduled")


def reprioritise(
    sql: Mapping[str, str],
    cursor: Cursor,
    task_id: str,
    *,
    priority: int,
    ensure_lanes: EnsureLanes,
    by: By,
) -> None:
    """Give a waiting task another priority.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: The priority is out of range.
    """
    check_priority(priority)
    known, stored = _read(sql, cursor, task_id)
    ensure_lanes([(stored.queue, priority)])
    state = tasks.reprioritise(sql, cursor, known, priority, by)
    _settle(task_id, state, "only a waiting task can get another priority")


def move_task(
    sql: Mapping[str, str],
    cursor: Cursor,
    task_id: str,
    *,
    queue: str,
    ensure_lanes: EnsureLanes,
    by: By,
) -> None:
    """Let a waiting task wait in another queue.

    Raises:
        TaskNotFound: There is no such task.
        QueueUnknown: There is no such queue.
        TaskConflict: It runs or has ended.
    """
    known, stored = _read(sql, cursor, task_id)
    check_queue(sql, cursor, queue)
    ensure_lanes([(queue, stored.priority, stored.is_gated)])
    state = tasks.move(sql, cursor, known, queue, by)
    _settle(task_id, state, "only a waiting task can be moved")


def retry_now(sql: Mapping[str, str], cursor: Cursor, task_id: str, *, again: bool = False, by: By) -> None:
    """Let a task run now that waits, failed, was cancelled or skipped; with ``again`` also one that succeeded.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs, or has succeeded.
        psycopg2.Error: PQ011: it has ended, and another task has its key by now.
    """
    state = tasks.retry(sql, cursor, _known(task_id), by, again=again)
    _settle(task_id, state, "only a task that waits, or has ended without success, can be retried")


def clone(
    sql: Mapping[str, str],
    cursor: Cursor,
    task_id: str,
    *,
    make: Callable[[StoredMessage], NewTask],
    by: By,
) -> str:
    """Enqueue what ``make`` makes of a task's message; return the id of the new task.

    Raises:
        TaskNotFound: There is no such task.
        psycopg2.Error: PQ011: another task has its key.
    """
    known, stored = _read(sql, cursor, task_id)
    return tasks.clone(sql, cursor, make(stored), parent=known, by=by)


def check_priority(priority: object) -> None:
    """Refuse what is no priority.

    Raises:
        ValueError: It is no whole number that a smallint holds.
    """
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in _PRIORITIES:
        message = f"The priority {priority!r} is no whole number from -32768 to 32767"
        raise ValueError(message)


def check_queue(sql: Mapping[str, str], cursor: Cursor, queue: str) -> None:
    """Refuse a queue that nobody has used yet.

    Raises:
        QueueUnknown: There is no such queue.
    """
    if not queues.exists(sql, cursor, queue):
        raise QueueUnknown(queue)


def _read(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> tuple[str, StoredMessage]:
    known = _known(task_id)
    stored = tasks.read(sql, cursor, known)
    if stored is None:
        raise TaskNotFound(task_id)
    return known, stored


def _known(task_id: str) -> str:
    known = tasks.as_task_id(task_id)
    if known is None:
        raise TaskNotFound(task_id)
    return known


def _settle(task_id: str, state: str | None, what: str) -> None:
    if state is None:
        raise TaskNotFound(task_id)
    if state != tasks.DONE:
        raise TaskConflict(task_id, state, what)
