"""What has happened to one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One row of the view ``task_timeline``."""

    at: datetime
    event: str
    run: int | None
    worker_id: int | None
    #: The operator, if it was one.
    who: str | None
    detail: str | None


def timeline(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> list[TimelineRow]:
    """List what has happened to a task, in its order."""
    cursor.execute(sql["task_timeline"], {"task_id": task_id})
    return [TimelineRow(*row) for row in cursor.fetchall()]
