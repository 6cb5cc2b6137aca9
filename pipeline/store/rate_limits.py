"""Statements about the counters of rate limiters and barriers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: What a bigint holds: the bound of a counter that has none.
LEAST = -(2**63)
MOST = 2**63 - 1


def add(sql: Mapping[str, str], cursor: Cursor, key: str, value: int, ttl_ms: int) -> bool:
    """Make a key; False if it is there already."""
    cursor.execute(sql["add_rate"], {"key": key, "value": value, "ttl_ms": ttl_ms})
    return _truth(cursor)


def count(
    sql: Mapping[str, str], cursor: Cursor, key: str, delta: int, ttl_ms: int, *, least: int = LEAST, most: int = MOST
) -> bool:
    """Add to a key; False if the sum would leave the bounds."""
    cursor.execute(sql["count_rate"], {"key": key, "delta": delta, "least": least, "most": most, "ttl_ms": ttl_ms})
    return _truth(cursor)


def count_sum(
    sql: Mapping[str, str], cursor: Cursor, key: str, keys: Iterable[str], amount: int, ttl_ms: int, *, most: int
) -> bool:
    """Add to a key; False if the sum of all the keys would exceed ``most``."""
    row = {"key": key, "keys": list(keys), "amount": amount, "most": most, "ttl_ms": ttl_ms}
    cursor.execute(sql["sum_rate"], row)
    return _truth(cursor)


def tell(sql: Mapping[str, str], cursor: Cursor, key: str, ttl_ms: int) -> None:
    """Tell those who wait for a key, now or within ``ttl_ms``."""
    cursor.execute(sql["tell_rate"], {"key": key, "ttl_ms": ttl_ms})


def was_told(sql: Mapping[str, str], cursor: Cursor, key: str) -> bool:
    """Tell whether a key's event has happened."""
    cursor.execute(sql["was_told"], {"key": key})
    return _truth(cursor)


def _truth(cursor: Cursor) -> bool:
    row = cursor.fetchone()
    return row is not None and bool(row[0])
