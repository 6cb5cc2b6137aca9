"""Statements about results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.states import TaskState

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Ending:
    """What there is to tell whoever waits for a task."""

    #: How it ended; None if it has not (it may run again), or if the result belongs to no run of ours.
    state: TaskState | None
    has_result: bool
    #: JSON; None also for the result None.
    result: str | None
    error_type: str | None = None
    error_message: str | None = None

    @property
    def is_answer(self) -> bool:
        """Tell whether no better answer will come: a result, or the news that there will be none."""
        return self.has_result or self.state in {TaskState.FAILED, TaskState.CANCELLED}


def result(sql: Mapping[str, str], cursor: Cursor, message_id: str) -> tuple[str | None] | None:
    """Return the stored result's JSON in a tuple (None in it for the result None), or None while there is none."""
    cursor.execute(sql["result"], {"message_id": message_id})
    return cursor.fetchone()


def results(sql: Mapping[str, str], cursor: Cursor, message_ids: Iterable[str]) -> dict[str, Ending]:
    """Return what there is to tell of those tasks that have a result, or have ended without."""
    cursor.execute(sql["results"], {"message_ids": list(message_ids)})
    return {
        message_id: Ending(TaskState(state) if state else None, *told) for message_id, state, *told in cursor.fetchall()
    }


def store(sql: Mapping[str, str], cursor: Cursor, message_id: str, value: str | None, ttl_ms: int) -> None:
    """Keep a result that belongs to no run of ours."""
    cursor.execute(sql["store_result"], {"message_id": message_id, "result": value, "ttl_ms": ttl_ms})
