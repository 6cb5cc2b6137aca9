"""Cancel a task that waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import TaskNotCancellable, TaskNotFound
from pipeline.states import TaskState
from pipeline.store import tasks

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def cancel(sql: Mapping[str, str], cursor: Cursor, task_id: str, *, who: str, reason: str = "") -> None:
    """Cancel a task that waits, on the transaction the cursor has; cancelling it again changes nothing.

    A worker that claims at the same moment and we never both get the task: either it is cancelled, or it runs and this
    says so.

    Raises:
        TaskNotFound: There is no such task.
        TaskNotCancellable: It runs or has ended; ``state`` says which.
    """
    known = tasks.as_task_id(task_id)
    state = tasks.cancel(sql, cursor, known, who, reason) if known else None
    if state is None:
        raise TaskNotFound(task_id)
    if state != TaskState.CANCELLED:
        raise TaskNotCancellable(task_id, state)
