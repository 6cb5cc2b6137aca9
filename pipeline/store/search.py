"""Statements that search tasks by what people know of them, and not for too long."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.states import TaskState
from pipeline.store.tasks import TaskRow, task_of

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: Ids begin with the milliseconds since then.
_BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
_SEQUENCE_BITS = 22
#: As many as there may be.
ALL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Which tasks are meant: those that match all of what is given; None is whatever it may be."""

    states: Collection[TaskState] | None = None
    actor: str | None = None
    queue: str | None = None
    tag: str | None = None
    entity: str | None = None
    tenant: str | None = None
    correlation_id: str | None = None
    #: The id of the task that enqueued them.
    parent: str | None = None
    #: In whose hands they are, or were last.
    worker_id: int | None = None
    #: The class of their last error.
    error_type: str | None = None
    #: A part of the actor's name, the note, entity, correlation id, tags or error.
    text: str | None = None
    #: From then on, and before then.
    created_from: datetime | None = None
    created_to: datetime | None = None
    finished_from: datetime | None = None
    finished_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search met."""

    tasks: list[TaskRow]
    #: There was no time for all: of the tasks that match, those that are older than this one were not met.
    searched_to: int | None

    @property
    def searched_to_at(self) -> datetime | None:
        """When the last task was enqueued that was looked at, if there was no time for all."""
        return None if self.searched_to is None else _enqueued_at(self.searched_to)


@dataclass(frozen=True, slots=True)
class Count:
    """How many tasks match."""

    value: int
    #: Or there are more: there was a limit, or no time for all.
    is_exact: bool


def search(
    sql: Mapping[str, str],
    cursor: Cursor,
    asked: Asked,
    *,
    before: int | None = None,
    limit: int = 20,
    within_ms: int | None = None,
    large: Collection[str] = (),
) -> Found:
    """Find the newest tasks that match, newest first; those that are older than the task of the id ``before``.

    The search ends after ``within_ms`` with what it has found. Of ``args``, ``kwargs``, ``result`` and ``error`` those
    are read that ``large`` names.
    """
    more = {"before": before, "limit": limit, "within_ms": within_ms, "large": list(large)}
    cursor.execute(sql["search_tasks"], _parameters(asked) | more)
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    searched_to = rows[0]["searched_to"] if rows else None
    for row in rows:
        del row["searched_to"]
    return Found([task_of(row) for row in rows if row["id"] is not None], searched_to)


def count(
    sql: Mapping[str, str], cursor: Cursor, asked: Asked, *, limit: int = ALL, within_ms: int | None = None
) -> Count:
    """Count the tasks that match, up to a limit, and as far as there is time."""
    cursor.execute(sql["count_tasks"], _parameters(asked) | {"limit": min(limit + 1, ALL), "within_ms": within_ms})
    value, has_ended = cursor.fetchall()[0]
    return Count(min(value, limit), has_ended and value <= limit)


def _parameters(asked: Asked) -> dict[str, Any]:
    states = None if asked.states is None else [state.value for state in asked.states]
    return asdict(asked) | {"states": states}


def _enqueued_at(id: int) -> datetime:
    return _BEGINNING + timedelta(milliseconds=id >> _SEQUENCE_BITS)
