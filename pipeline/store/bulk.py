"""Statements that do the same to many tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.states import TaskAction, TaskState

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done to each task: the action, and what it takes."""

    action: TaskAction
    #: Of cancelling: how long after it a running task's process is killed; None: never.
    force_after_ms: int | None = None
    #: Of retrying: also what has succeeded.
    again: bool = False
    #: Of snoozing.
    delay_ms: int | None = None
    #: Of rescheduling.
    eta: datetime | None = None
    #: Of moving.
    queue: str | None = None
    #: Of reprioritising.
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it for one task."""

    task_id: str
    #: What the command on one task returns, and ``held`` if another task has its key; None for an unknown id.
    told: str | None
    #: In which it is now.
    state: TaskState | None


def act(sql: Mapping[str, str], cursor: Cursor, message_ids: Sequence[str], deed: Deed, by: By) -> dict[str, Told]:
    """Do it to each of these tasks; tell of each what came of it, by its id."""
    cursor.execute(
        sql["act_on_tasks"],
        {
            "message_ids": list(message_ids),
            "action": deed.action.value,
            "force_after_ms": deed.force_after_ms,
            "again": deed.again,
            "delay_ms": deed.delay_ms,
            "eta": deed.eta,
            "queue": deed.queue,
            "priority": deed.priority,
            **by.parameters,
        },
    )
    return {id: Told(id, told, None if state is None else TaskState(state)) for id, told, state in cursor.fetchall()}


def lanes(sql: Mapping[str, str], cursor: Cursor, message_ids: Sequence[str]) -> list[tuple[str, int, bool]]:
    """List in which queues and of which priorities tasks wait, or did, and whether the queues have gates."""
    cursor.execute(sql["lanes_of_tasks"], {"message_ids": list(message_ids)})
    return cursor.fetchall()
