"""Statements about what tasks logged while they ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: What the view calls the levels of ``logging``, from the least on.
LEVELS = ("debug", "info", "warning", "error", "critical")


class Place(NamedTuple):
    """Where a line stands among those of its task."""

    run: int
    line: int


#: Before all lines.
BEGINNING = Place(0, 0)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a task logged."""

    run: int
    #: Which attempt the run is or was.
    attempt: int
    #: From 1, in the order of logging within the run.
    line: int
    at: datetime
    level: str
    logger: str
    message: str

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.run, self.line)


def write(sql: Mapping[str, str], cursor: Cursor, lines: str) -> None:
    """Write lines (the JSON of ``write_logs_v1``)."""
    cursor.execute(sql["write_logs"], {"lines": lines})


def read(
    sql: Mapping[str, str],
    cursor: Cursor,
    task_id: str,
    *,
    run: int | None = None,
    level: str = LEVELS[0],
    after: Place = BEGINNING,
    limit: int = 1000,
) -> list[LogLine]:
    """List what a task logged at a level or above it, in order, behind the line at ``after``; of one run or of all."""
    wanted = {
        "task_id": task_id,
        "run": run,
        "levels": list(LEVELS[LEVELS.index(level) :]),
        "after_run": after.run,
        "after_line": after.line,
        "limit": limit,
    }
    cursor.execute(sql["task_logs"], wanted)
    return [LogLine(*row) for row in cursor.fetchall()]
