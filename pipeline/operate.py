"""What an operator or an application can do to single tasks, besides cancelling them.

Every command takes ``who`` and ``reason``, which the audit trail keeps, and ``target``: a transaction of the caller's
(as :func:`pipeline.enlist` takes it) that it becomes a part of. By default it is a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.broker.cloning import Changes, clone_of
from pipeline.broker.sender import in_our_words
from pipeline.commands import tasks
from pipeline.context import delay_ms
from pipeline.runtime import command, our_broker

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

T = TypeVar("T")


def snooze(task_id: str, *, for_: timedelta, who: str, reason: str = "", target: Any = None) -> None:
    """Let a waiting task wait for so long at least, from now on; one that is due later anyway stays as it is.

    No attempt counts. A task that runs snoozes itself: ``current_task().snooze(seconds)``.

    Args:
        task_id: Which task.
        for_: How long; not negative.
        who: Whom the audit trail names.
        reason: Why.
        target: A transaction of the caller's, as for :func:`pipeline.cancel`.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended; ``state`` says which.
        ValueError: ``for_`` is negative.
    """
    _command(target, partial(tasks.snooze, task_id=task_id, for_=for_, who=who, reason=reason))


def reschedule(task_id: str, *, eta: datetime, who: str, reason: str = "", target: Any = None) -> None:
    """Let a waiting task be due at ``eta``, earlier or later than before; a time that is over means now.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: ``eta`` has no time zone.
    """
    _command(target, partial(tasks.reschedule, task_id=task_id, eta=eta, who=who, reason=reason))


def reprioritise(task_id: str, priority: int, *, who: str, reason: str = "", target: Any = None) -> None:
    """Give a waiting task another priority, which its retries keep. It keeps its eta, and so its place.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: The priority is no whole number from -32,768 to 32,767.
    """
    ensure = our_broker().sender.ensure_lanes
    change = partial(tasks.reprioritise, task_id=task_id, priority=priority, ensure_lanes=ensure)
    _command(target, partial(change, who=who, reason=reason))


def move_task(task_id: str, queue: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let a waiting task wait in another queue, whose workers must have its actor.

    Raises:
        TaskNotFound: There is no such task.
        QueueUnknown: There is no such queue.
        TaskConflict: It runs or has ended.
    """
    ensure = our_broker().sender.ensure_lanes
    change = partial(tasks.move_task, task_id=task_id, queue=queue, ensure_lanes=ensure)
    _command(target, partial(change, who=who, reason=reason))


def retry_now(task_id: str, *, who: str, reason: str = "", again: bool = False, target: Any = None) -> None:
    """Let a task run now: one that waits for its time or its retry, or that failed, was cancelled or skipped.

    A task that had ended starts over: how often it was retried is forgotten, its runs and attempts are numbered on.

    Args:
        task_id: Which task.
        who: Whom the audit trail names.
        reason: Why.
        again: Also one that has succeeded.
        target: A transaction of the caller's, as for :func:`pipeline.cancel`.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs, or has succeeded.
        DuplicateTask: It has ended, and another task has its key by now.
    """
    _command(target, partial(tasks.retry_now, task_id=task_id, again=again, who=who, reason=reason))


def clone(  # noqa: PLR0913 - as many as a message has parts
    task_id: str,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: timedelta | None = None,
    who: str,
    reason: str = "",
    target: Any = None,
    **options: Any,
) -> str:
    """Enqueue a copy of a task, in whatever state that is, and return the id of the new one.

    It belongs to no group, and has no idempotency key unless it is given one. If a task has its unique key, that is an
    error unless ``on_conflict`` says otherwise.

    Args:
        task_id: Which task.
        args: Other positional arguments.
        kwargs: Other named arguments.
        queue: Another queue.
        priority: Another priority.
        delay: When it is due; by default at once.
        who: Whom the audit trail names.
        reason: Why.
        target: A transaction of the caller's, as for :func:`pipeline.cancel`.
        options: Options of the message that are added or changed.

    Raises:
        TaskNotFound: There is no such task.
        QueueUnknown: There is no such queue.
        DuplicateTask: Another task has its key.
        MessageNotEncodable: The arguments or options cannot be written, or the old message not be read.
        MessageTooLarge: The message is larger than the limit.
        ValueError: The priority is out of range, or the delay negative.
    """
    if priority is not None:
        tasks.check_priority(priority)
    wait_ms = None if delay is None else delay_ms(delay.total_seconds())
    changes = Changes(args, kwargs, queue, priority, wait_ms, options)

    def copy(sql: Mapping[str, str], cursor: Cursor) -> str:
        if queue is not None:
            tasks.check_queue(sql, cursor, queue)
        make = partial(clone_of, our_broker(), changes=changes)
        return tasks.clone(sql, cursor, task_id, make=make, who=who, reason=reason)

    return _command(target, copy)


def _command(target: Any, statement: Callable[[Mapping[str, str], Cursor], T]) -> T:
    with in_our_words():
        return command(target, statement)
