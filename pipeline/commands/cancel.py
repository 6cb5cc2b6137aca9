"""Cancel tasks: one, what belongs together, or whatever matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.errors import QueueUnknown, TaskNotCancellable, TaskNotFound
from pipeline.states import TaskState
from pipeline.store import cancels, tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.cancels import CancelCounts

#: What the store says of a running task that was asked to end.
_ASKED = "cancelling"
#: What a filter calls the tasks that do not run yet, whatever they wait for.
_WAITING = "waiting"


def cancel_task(
    sql: Mapping[str, str], cursor: Cursor, *, task_id: str, whole: bool, request: cancels.Request
) -> TaskState:
    """Cancel a task, or all that it belongs together with, on the transaction the cursor has.

    A worker that claims at the same moment and we never both get the task: either it is gone, or it runs and is asked
    to end.

    Raises:
        TaskNotFound: There is no such task.
        TaskNotCancellable: It has ended; ``state`` says how.
    """
    known = tasks.as_task_id(task_id)
    if known is None:
        raise TaskNotFound(task_id)
    together = (cancels.composition(sql, cursor, known) or [known]) if whole else [known]
    if len(together) > 1:
        return cancel_together(sql, cursor, message_ids=together, name=task_id, request=request)
    return _judged(task_id, [cancels.cancel(sql, cursor, known, request)])


def cancel_together(
    sql: Mapping[str, str], cursor: Cursor, *, message_ids: Sequence[str], name: str, request: cancels.Request
) -> TaskState:
    """Cancel what belongs together, a chain in its order; what has ended already stays as it is.

    Raises:
        TaskNotFound: None of it is known.
        TaskNotCancellable: All that is known of it has ended.
    """
    return _judged(name, cancels.cancel_many(sql, cursor, list(dict.fromkeys(message_ids)), request))


def _judged(name: str, states: Sequence[str | None]) -> TaskState:
    if _ASKED in states:
        return TaskState.RUNNING
    if TaskState.CANCELLED in states:
        return TaskState.CANCELLED
    ended = [state for state in states if state is not None]
    if not ended:
        raise TaskNotFound(name)
    raise TaskNotCancellable(name, ended[-1])


def cancel_where(  # noqa: PLR0913 - each narrows it down
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    queue: str | None,
    actor: str | None,
    state: str | None,
    older_than: timedelta | None,
    request: cancels.Request,
    dry_run: bool,
) -> CancelCounts:
    """Cancel what matches, or only count it, on the transaction the cursor has.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: Nothing narrows it down, the state is neither, or the age is negative.
    """
    older_ms = None if older_than is None else milliseconds(older_than, "age")
    if state not in {None, _WAITING, TaskState.RUNNING}:
        message = f"The state is {_WAITING!r} or {TaskState.RUNNING.value!r}, not {state!r}"
        raise ValueError(message)
    if queue is None and actor is None and state is None and older_ms is None:
        message = "Name a queue, an actor, a state or an age: nothing here cancels everything"
        raise ValueError(message)
    which = cancels.Filter(queue, actor, state, older_ms)
    counts = cancels.cancel_where(sql, cursor, which, request, dry_run=dry_run)
    if counts is None:
        raise QueueUnknown(queue)
    return counts


def milliseconds(span: timedelta, what: str) -> int:
    """Make whole milliseconds of a time span.

    Raises:
        ValueError: It is negative.
    """
    if span < timedelta(0):
        message = f"The {what} cannot be negative: {span}"
        raise ValueError(message)
    return round(span.total_seconds() * 1000)
