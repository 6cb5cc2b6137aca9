"""Statements about the counters of how runs ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def add(sql: Mapping[str, str], cursor: Cursor, rows: str) -> None:
    """Add what a process counted: rows of ``stat_minute`` as JSON, in any order."""
    cursor.execute(sql["add_stats"], {"rows": rows})


def fold(sql: Mapping[str, str], cursor: Cursor, limit: int) -> int:
    """Add so much of what was put aside by those who concluded it; return how much it was."""
    cursor.execute(sql["fold_stats"], {"limit": limit})
    (count,) = cursor.fetchone() or (0,)
    return int(count)


def join_totals(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Put the rows of the totals together that nobody adds to any more."""
    cursor.execute(sql["join_totals"])
