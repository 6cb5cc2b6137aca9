"""From runs to figures: medians, spread and paired ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.measure import median_interval

#: The tasks with which each process warms up before the clock of a drain starts.
WARM_UP = 50


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest, or with the interval, of what it is the median of."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """What was measured: a value for each metric, system and round; what failed; and who was left out."""

    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, metric: str, system: str, number: int, value: float) -> None:
        self.values.setdefault(metric, {}).setdefault(system, {})[number] = value

    def spread(self, metric: str, system: str) -> Spread | None:
        """Give the median over the rounds and the range; None where nothing was measured."""
        runs = self.values.get(metric, {}).get(system)
        return Spread.of(list(runs.values())) if runs else None

    def ratio(self, metric: str, system: str, other: str) -> Spread | None:
        """Give the median of the ratios within each round, and its interval; None if they never met in a round."""
        mine, theirs = (self.values.get(metric, {}).get(name, {}) for name in (system, other))
        ratios = [mine[number] / theirs[number] for number in sorted(mine.keys() & theirs.keys()) if theirs[number]]
        return Spread(statistics.median(ratios), *median_interval(ratios)) if ratios else None


def drain_rate(ends: Sequence[Sequence[float]], warm_up: int = WARM_UP) -> float:
    """Tasks per second from the moment when all processes were warm until the last task ended.

    ``ends`` are the times at which tasks ended, by process and in order. A process that hardly got one does not count
    as one to wait for, but its tasks do.

    Raises:
        ValueError: It was over before all were warm; more tasks are needed.
    """
    begun = max((process[warm_up - 1] for process in ends if len(process) >= warm_up), default=math.inf)
    after = [end for process in ends for end in process if end > begun]
    if len(after) < warm_up:
        message = f"only {len(after)} tasks were left when every process had run {warm_up}; prepare more"
        raise ValueError(message)
    return len(after) / (max(after) - begun)


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least that share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
