"""Statements about gates: what tasks may have to wait for besides their turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class GateRow:
    """What holds tasks back, as the view ``gate_status`` has it."""

    gate: str
    is_paused: bool
    max_running: int | None
    running: int
    waiting: int
    paused_by: str | None
    pause_reason: str | None
    resume_at: datetime | None
    #: Whether all were counted that are through or wait.
    is_exact: bool = True


def sweep(sql: Mapping[str, str], cursor: Cursor, after: str | None, limit: int) -> tuple[str | None, bool]:
    """Let go what may pass at some gates after one.

    Returns:
        The last of them, None when there are no more; and whether anything was parked anywhere.
    """
    cursor.execute(sql["sweep_gates"], {"after": after, "limit": limit})
    last, was_needed = cursor.fetchall()[0]
    return last, was_needed


def hold(sql: Mapping[str, str], cursor: Cursor, gate: str) -> None:
    """Keep the rule of a gate as it is until the end of the transaction."""
    cursor.execute(sql["hold_gate"], {"gate": gate})


def pause(sql: Mapping[str, str], cursor: Cursor, gate: str, *, by: By, resume_after_ms: int | None) -> bool:
    """Let no task pass a gate; False if there is no such gate."""
    cursor.execute(sql["pause_gate"], {"gate": gate, "resume_after_ms": resume_after_ms, **by.parameters})
    return bool(_value(cursor))


def resume(sql: Mapping[str, str], cursor: Cursor, gate: str, *, by: By) -> bool:
    """Let tasks pass again; False if there is no such gate."""
    cursor.execute(sql["resume_gate"], {"gate": gate, **by.parameters})
    return bool(_value(cursor))


def limit(sql: Mapping[str, str], cursor: Cursor, gate: str, most: int | None, *, by: By) -> bool:
    """Let so many tasks through a gate at a time, None for what the actors say; False if there is no such gate."""
    cursor.execute(sql["limit_gate"], {"gate": gate, "most": most, **by.parameters})
    return bool(_value(cursor))


def gates(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    gate: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    most: int | None = None,
) -> list[GateRow]:
    """List what holds tasks back now, by its names: all of it, what comes after a gate, or one of them.

    Tasks are counted up to ``most`` at each.
    """
    cursor.execute(sql["gates"], {"gate": gate, "after": after, "limit": limit, "most": most})
    return [GateRow(*row) for row in cursor.fetchall()]


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
