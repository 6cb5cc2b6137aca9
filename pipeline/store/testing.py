"""Statements that nothing but ``pipeline.testing`` uses, on the tables themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A task that waits, due or not."""

    task_id: str
    actor: str
    queue: str
    priority: int
    payload: str
    eta: datetime
    #: From when it was sent, or its last run ended, to its eta.
    delay_ms: float
    attempt: int


def waiting(sql: Mapping[str, str], cursor: Cursor) -> list[WaitingRow]:
    """List what waits."""
    cursor.execute(sql["waiting_tasks"])
    return [WaitingRow(*row) for row in cursor.fetchall()]


def bring_forward(sql: Mapping[str, str], cursor: Cursor, queues: Sequence[str]) -> int:
    """Let what comes due next be due now; return how many tasks that are."""
    cursor.execute(sql["bring_forward"], {"queues": list(queues)})
    return cursor.rowcount


def empty(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Forget everything but the migrations."""
    cursor.execute(sql["empty_tables"])
