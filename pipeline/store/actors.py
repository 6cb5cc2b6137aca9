"""Statements about actors: what workers have announced, and how it fares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

Period = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class ActorRow:
    """What workers have announced of an actor."""

    actor: str
    queue: str
    priority: int
    #: When it was announced first, or with another queue, priority or limit.
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class ActorStats:
    """How the runs of an actor in a queue ended within some time, how long they waited and how long they took."""

    actor: str
    queue: str
    started: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    skipped: int
    interrupted: int
    lost: int
    #: Of those that succeeded or failed.
    failure_rate: float | None
    mean_wait_seconds: float | None
    p50_wait_seconds: float | None
    p95_wait_seconds: float | None
    mean_run_seconds: float | None
    p50_run_seconds: float | None
    p95_run_seconds: float | None


def actors(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    actor: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> list[ActorRow]:
    """List actors by their names: all, those after one, or one of them."""
    cursor.execute(sql["actors"], {"actor": actor, "after": after, "limit": limit})
    return [ActorRow(*row) for row in cursor.fetchall()]


def stats(
    sql: Mapping[str, str],
    cursor: Cursor,
    period: Period,
    *,
    actors: Collection[str] | None = None,
    queue: str | None = None,
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[ActorStats]:
    """List how the runs of actors ended within the last hour or day, by actor and queue; those after a pair of them."""
    after_actor, after_queue = after or (None, None)
    names = None if actors is None else list(actors)
    chosen = {"period": period, "actors": names, "queue": queue, "limit": limit}
    cursor.execute(sql["actor_stats"], chosen | {"after_actor": after_actor, "after_queue": after_queue})
    return [ActorStats(*row) for row in cursor.fetchall()]
