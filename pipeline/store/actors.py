"""Statements about actors: what workers have announced, and how it fares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

Period = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class ActorRow:
    """What workers have announced of an actor."""

    actor: str
    queue: str
    priority: int
    #: When it was announced first, or otherwise than before.
    seen_at: datetime
    #: Whether its runs have to pass gates of their own.
    has_limits: bool
    #: Its docstring.
    description: str | None
    #: Each with its name, kind, annotation, default and whether it is required; None: nobody can tell.
    parameters: list[dict[str, Any]] | None
    #: Names of parameters and fields whose values are shown to nobody, in small letters.
    masked: list[str]


@dataclass(frozen=True, slots=True)
class ActorMasks:
    """What workers have announced of an actor that decides what is shown of its tasks."""

    actor: str
    #: Of its parameters, in their order; None: nobody can tell.
    names: list[str] | None
    kinds: list[str] | None
    #: As above.
    masked: list[str]


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


def masks(sql: Mapping[str, str], cursor: Cursor) -> list[ActorMasks]:
    """Tell of all actors what decides what is shown of their tasks."""
    cursor.execute(sql["actor_masks"])
    return [ActorMasks(*row) for row in cursor.fetchall()]


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
