"""Which runs the database is told of: those that have lasted a moment. Most end before, and cost no statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.store.workers import RunningTask

#: A run that has not been going on for so long is not told.
_SHORTEST_SECONDS = 0.5


class PlacedRun(NamedTuple):
    """One run, and where it goes on."""

    id: int
    run: int
    #: When it began, and when it must have ended (0: never, as far as is known here), on the machine's monotonic clock.
    started_at: float
    deadline: float
    #: In which of the worker's threads, from 1; 0 if that is gone.
    thread: int


def lasting(runs: Iterable[PlacedRun], now: float) -> list[PlacedRun]:
    """Choose the runs that are worth telling."""
    return [each for each in runs if each.started_at <= now - _SHORTEST_SECONDS]


def identities(runs: Iterable[PlacedRun]) -> frozenset[tuple[int, int]]:
    """Name runs: where these are the same, there is nothing new to tell."""
    return frozenset((each.id, each.run) for each in runs)


def as_told(runs: Iterable[PlacedRun], now: float) -> Sequence[RunningTask]:
    """Describe runs in terms that hold on any clock."""
    return [RunningTask(each.id, max(now - each.started_at, 0.0), each.thread) for each in runs]
