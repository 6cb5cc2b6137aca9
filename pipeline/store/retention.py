"""Statements about weekly partitions, and about what nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def missing_partitions(sql: Mapping[str, str], cursor: Cursor, retention_days: int) -> list[tuple[str, int]]:
    """List the weekly partitions that should be there and are not: table and week."""
    cursor.execute(sql["missing_partitions"], {"retention_days": retention_days})
    return [(parent, week) for parent, week in cursor.fetchall()]


def make_partition(sql: Mapping[str, str], cursor: Cursor, parent: str, week: int) -> bool:
    """Make a partition; False if somebody else did."""
    cursor.execute(sql["make_partition"], {"parent": parent, "week": week})
    return bool(_value(cursor))


def expired_weeks(sql: Mapping[str, str], cursor: Cursor, retention_days: int) -> list[int]:
    """List the weeks whose time is over, oldest first."""
    cursor.execute(sql["expired_weeks"], {"retention_days": retention_days})
    return [week for (week,) in cursor.fetchall()]


def carry_tasks(sql: Mapping[str, str], cursor: Cursor, week: int, after: int, limit: int) -> int | None:
    """Carry waiting tasks of a week that come after an id; return the last one's id, None when there are no more."""
    cursor.execute(sql["carry_tasks"], {"week": week, "after": after, "limit": limit})
    return _value(cursor)  # type: ignore[no-any-return]


def drop_week(sql: Mapping[str, str], cursor: Cursor, week: int) -> int | None:
    """Drop a week; return how many of its tasks are carried, None if somebody else dropped it."""
    cursor.execute(sql["drop_week"], {"week": week})
    return _value(cursor)  # type: ignore[no-any-return]


def purge_carried(sql: Mapping[str, str], cursor: Cursor, retention_days: int, limit: int) -> int:
    """Forget carried tasks that ended longer ago than the retention; return how many."""
    cursor.execute(sql["purge_carried"], {"retention_days": retention_days, "limit": limit})
    return int(_value(cursor))


def purge(sql: Mapping[str, str], cursor: Cursor, retention_days: int, limit: int) -> dict[str, int]:
    """Delete what nobody needs any more; return how many rows of which table."""
    cursor.execute(sql["purge"], {"retention_days": retention_days, "limit": limit})
    return {kind: deleted for kind, deleted in cursor.fetchall() if deleted}


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
