"""Statements about cancelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class CancelCounts:
    """How many tasks a filter met."""

    #: Those that waited: they are gone.
    waiting: int
    #: Those that run: they were asked to end.
    running: int


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks, why, and how long after it a running task's process is killed (None: never)."""

    by: By
    force_after_ms: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks; None: all."""

    queue: str | None
    actor: str | None
    #: ``waiting`` or ``running``.
    state: str | None
    older_ms: int | None


def cancel(sql: Mapping[str, str], cursor: Cursor, message_id: str, request: Request) -> str | None:
    """Cancel a task, or ask it to end; return ``cancelled``, ``cancelling`` or the state it has ended in.

    None for an unknown id.
    """
    cursor.execute(sql["cancel_task"], {"message_id": message_id} | _asked(request))
    value: str | None = _value(cursor)
    return value


def cancel_many(
    sql: Mapping[str, str], cursor: Cursor, message_ids: Sequence[str], request: Request
) -> list[str | None]:
    """Cancel what belongs together; return for each what :func:`cancel` would."""
    cursor.execute(sql["cancel_many"], {"message_ids": list(message_ids)} | _asked(request))
    return [state for (state,) in cursor.fetchall()]


def composition(sql: Mapping[str, str], cursor: Cursor, message_id: str) -> list[str] | None:
    """List the messages that one belongs together with; None for an unknown id."""
    cursor.execute(sql["composition"], {"message_id": message_id})
    value: list[str] | None = _value(cursor)
    return value


def cancel_where(
    sql: Mapping[str, str], cursor: Cursor, which: Filter, request: Request, *, dry_run: bool
) -> CancelCounts | None:
    """Cancel what matches, or only count it; None if there is no such queue."""
    where = {"queue": which.queue, "actor": which.actor, "state": which.state, "older_ms": which.older_ms}
    cursor.execute(sql["cancel_where"], where | _asked(request) | {"dry_run": dry_run})
    row = cursor.fetchone()
    return None if row is None else CancelCounts(*row)


def requests(sql: Mapping[str, str], cursor: Cursor, ids: Iterable[int]) -> dict[int, bool]:
    """Tell which of these tasks were asked to end, and whether their process shall be killed by now."""
    cursor.execute(sql["cancel_requests"], {"ids": list(ids)})
    return dict(cursor.fetchall())


def settle(sql: Mapping[str, str], cursor: Cursor) -> int:
    """Conclude what waits although it was asked to end; return how many tasks there were."""
    cursor.execute(sql["settle_cancels"])
    value: int = _value(cursor)
    return value


def _asked(request: Request) -> dict[str, Any]:
    return {"force_after_ms": request.force_after_ms, **request.by.parameters}


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
