"""Statements about the inbox: the table of an unmodified dramatiq-pg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Adoption:
    """What one look into the inbox did."""

    adopted: int
    #: Set aside with a reason.
    rejected: int
    #: Queue and priority of rows that wait until their lane is there.
    missing_lanes: frozenset[tuple[str, int]]


def adopt(sql: Mapping[str, str], cursor: Cursor, inbox: tuple[str, str], limit: int) -> Adoption | None:
    """Adopt up to ``limit`` waiting rows of the inbox (its schema and prefix); None if there is no inbox."""
    return _adoption(cursor, sql["adopt_inbox"], inbox, limit)


def adopt_consumed(sql: Mapping[str, str], cursor: Cursor, inbox: tuple[str, str], limit: int) -> Adoption | None:
    """Adopt what workers of dramatiq-pg left unfinished; the database refuses while one of them is connected."""
    return _adoption(cursor, sql["adopt_consumed"], inbox, limit)


def purge_answers(sql: Mapping[str, str], cursor: Cursor, inbox: tuple[str, str], limit: int) -> int:
    """Delete up to ``limit`` answers whose time is over; return how many."""
    cursor.execute(sql["purge_answers"], _parameters(inbox, limit))
    row: Any = cursor.fetchone()
    return int(row[0])


def _adoption(cursor: Cursor, statement: str, inbox: tuple[str, str], limit: int) -> Adoption | None:
    cursor.execute(statement, _parameters(inbox, limit))
    row = cursor.fetchone()
    if row is None:
        return None
    adopted, rejected, queues, priorities = row
    return Adoption(adopted, rejected, frozenset(zip(queues or (), priorities or (), strict=True)))


def _parameters(inbox: tuple[str, str], limit: int) -> dict[str, Any]:
    schema, prefix = inbox
    return {"inbox_schema": schema, "inbox_prefix": prefix, "limit": limit}
