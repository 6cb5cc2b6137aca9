"""What an operator or an application can do to tasks.

Every command takes ``who`` and ``reason``, which the audit trail keeps, and ``target``: a transaction of the caller's
(as :func:`pipeline.enlist` takes it) that it becomes a part of. By default it is a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import dramatiq

from pipeline.broker.cloning import Changes, clone_of
from pipeline.broker.composition import message_ids
from pipeline.broker.sender import in_our_words
from pipeline.commands import tasks
from pipeline.commands.cancel import cancel_task, cancel_together, milliseconds
from pipeline.commands.cancel import cancel_where as cancel_in_store
from pipeline.context import delay_ms
from pipeline.runtime import command, our_broker
from pipeline.store.audit import By
from pipeline.store.cancels import CancelCounts, Request

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.states import TaskState

T = TypeVar("T")


def cancel(
    what: str | dramatiq.Message[Any] | dramatiq.group | dramatiq.pipeline,
    *,
    who: str,
    reason: str = "",
    force: bool = False,
    grace: timedelta = timedelta(seconds=5),
    whole: bool = False,
    target: Any = None,
) -> TaskState:
    """Cancel a task, a chain or a group. What waits is gone at once; what runs is asked to end.

    A running task gets :class:`pipeline.Cancelled` raised in its thread, within two seconds. It ends as cancelled
    whatever it does then, and runs no more, unless it succeeded or failed for good before this was committed.
    Cancelling again changes nothing; of a composition, what has ended already stays as it is.

    Args:
        what: A task's id or message, or a chain or group. Steps of a chain that do not exist yet will not run.
        who: Whom the audit trail names.
        reason: Why; it becomes the task's error.
        force: Kill the process in which the task runs if it has not ended after ``grace``. Needs ``pipeline worker``.
        grace: See ``force``.
        whole: With the id or message of one task: cancel the chain and the group it belongs to. Of a group, the members
            are known to the database only if it has a completion callback.
        target: A transaction of the caller's (as :func:`enlist` takes it) that this becomes a part of. By default it
            is a transaction of its own.

    Returns:
        ``CANCELLED``, or ``RUNNING`` if something runs and was asked to end.

    Raises:
        TaskNotFound: There is no such task.
        TaskNotCancellable: It has ended; ``state`` says how.
        ValueError: ``grace`` is negative.
    """
    request = _request(who, reason, force=force, grace=grace)
    if isinstance(what, dramatiq.group | dramatiq.pipeline):
        ids = message_ids(what)
        callbacks = [each["message_id"] for each in getattr(what, "completion_callbacks", ())]
        return command(
            target, partial(cancel_together, message_ids=[*ids, *callbacks], name=str(what), request=request)
        )
    task_id = what if isinstance(what, str) else what.message_id
    return command(target, partial(cancel_task, task_id=task_id, whole=whole, request=request))


def cancel_where(  # noqa: PLR0913 - each narrows it down
    *,
    who: str,
    reason: str = "",
    queue: str | None = None,
    actor: str | None = None,
    state: Literal["waiting", "running"] | None = None,
    older_than: timedelta | None = None,
    force: bool = False,
    grace: timedelta = timedelta(seconds=5),
    dry_run: bool = True,
    target: Any = None,
) -> CancelCounts:
    """Cancel all tasks that match all of what is given; by default only count them.

    Args:
        who: Whom the audit trail names.
        reason: Why; it becomes the tasks' error.
        queue: Only this queue's.
        actor: Only this actor's.
        state: Only those that wait (due or not), or only those that run.
        older_than: Only those that were enqueued at least so long ago.
        force: As for :func:`cancel`.
        grace: As for :func:`cancel`.
        dry_run: Only count. Pass False to cancel.
        target: As for :func:`cancel`.

    Returns:
        How many wait (and are gone) and how many run (and were asked to end).

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: Nothing narrows it down, the state is neither, or a time is negative.
    """
    request = _request(who, reason, force=force, grace=grace)
    which = partial(cancel_in_store, queue=queue, actor=actor, state=state, older_than=older_than)
    return command(target, partial(which, request=request, dry_run=dry_run))


def _request(who: str, reason: str, *, force: bool, grace: timedelta) -> Request:
    grace_ms = milliseconds(grace, "grace")
    return Request(By(who, reason), grace_ms if force else None)


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
    _command(target, partial(tasks.snooze, task_id=task_id, for_=for_, by=By(who, reason)))


def reschedule(task_id: str, *, eta: datetime, who: str, reason: str = "", target: Any = None) -> None:
    """Let a waiting task be due at ``eta``, earlier or later than before; a time that is over means now.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: ``eta`` has no time zone.
    """
    _command(target, partial(tasks.reschedule, task_id=task_id, eta=eta, by=By(who, reason)))


def reprioritise(task_id: str, priority: int, *, who: str, reason: str = "", target: Any = None) -> None:
    """Give a waiting task another priority, which its retries keep. It keeps its eta, and so its place.

    Raises:
        TaskNotFound: There is no such task.
        TaskConflict: It runs or has ended.
        ValueError: The priority is no whole number from -32,768 to 32,767.
    """
    ensure = our_broker().sender.ensure_lanes
    change = partial(tasks.reprioritise, task_id=task_id, priority=priority, ensure_lanes=ensure)
    _command(target, partial(change, by=By(who, reason)))


def move_task(task_id: str, queue: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let a waiting task wait in another queue, whose workers must have its actor.

    Raises:
        TaskNotFound: There is no such task.
        QueueUnknown: There is no such queue.
        TaskConflict: It runs or has ended.
    """
    ensure = our_broker().sender.ensure_lanes
    change = partial(tasks.move_task, task_id=task_id, queue=queue, ensure_lanes=ensure)
    _command(target, partial(change, by=By(who, reason)))


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
    _command(target, partial(tasks.retry_now, task_id=task_id, again=again, by=By(who, reason)))


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
        return tasks.clone(sql, cursor, task_id, make=make, by=By(who, reason))

    return _command(target, copy)


def _command(target: Any, statement: Callable[[Mapping[str, str], Cursor], T]) -> T:
    with in_our_words():
        return command(target, statement)
