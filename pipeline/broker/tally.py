"""How the runs of this process ended: counted in memory by minute, queue and actor, until somebody writes it down."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from pipeline.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion

#: As ``histogram_bounds()`` in SQL: up to how many seconds each bucket reaches. One more takes whatever is longer.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

#: The columns of ``stat_minute`` besides ``succeeded``, which is nearly all there is.
_OTHERS: Final = {
    Outcome.RETRY: "retried",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
    Outcome.SKIPPED: "skipped",
    Outcome.INTERRUPTED: "interrupted",
    Outcome.LOST: "lost",
}
_SUCCEEDED: Final = Outcome.SUCCEEDED


class _Counts:
    """One row: what ended in one minute of one queue and actor."""

    __slots__ = ("others", "run_seconds", "runs", "started", "succeeded", "wait_seconds", "waits")

    def __init__(self) -> None:
        self.started = self.succeeded = 0
        self.others = dict.fromkeys(_OTHERS.values(), 0)
        self.wait_seconds = self.run_seconds = 0.0
        #: One bucket each, not cumulative yet.
        self.waits = [0] * (len(BOUNDS) + 1)
        self.runs = [0] * (len(BOUNDS) + 1)


class Tally:
    """Takes what the hub concluded; gives it to whoever writes it. Both at any time, from threads of their own.

    Minutes and waits are those of the database's clock: this machine's may be wrong by hours. So somebody has to tell,
    before the first run and again and again, what that one shows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[int, str, str], _Counts] = {}
        #: What could not be written.
        self._left: list[dict[str, Any]] = []
        #: From this process's monotonic clock to the seconds since 1970 of the database.
        self._offset = time.time() - time.monotonic()

    def set_clock(self, epoch: float) -> None:
        """Learn what the database's clock shows at this moment."""
        self._offset = epoch - time.monotonic()

    def add(self, conclusions: Iterable[Conclusion]) -> None:
        """Count runs whose outcomes have been written. It takes about a microsecond each."""
        with self._lock:
            rows, offset = self._rows, self._offset
            for each in conclusions:
                proxy, outcome, finished_at = each.proxy, each.outcome, each.finished_at
                if outcome is not _SUCCEEDED and _is_of_others(proxy, outcome):
                    continue
                key = (int((finished_at + offset) // 60), proxy.queue_name, proxy.actor_name)
                counts = rows.get(key)
                if counts is None:
                    counts = rows[key] = _Counts()
                if outcome is _SUCCEEDED:
                    counts.succeeded += 1
                else:
                    counts.others[_OTHERS[outcome]] += 1
                started_at = proxy.started_at
                if started_at is not None:
                    wait, run = max(started_at + offset - proxy.eta, 0.0), finished_at - started_at
                    counts.started += 1
                    counts.wait_seconds += wait
                    counts.run_seconds += run
                    counts.waits[bisect_left(BOUNDS, wait)] += 1
                    counts.runs[bisect_left(BOUNDS, run)] += 1

    def take(self) -> list[dict[str, Any]]:
        """Take what was counted since the last time, as rows of ``stat_minute``, to be written by the caller."""
        with self._lock:
            rows, self._rows = self._rows, {}
            left, self._left = self._left, []
        return left + [_as_row(*key, counts) for key, counts in rows.items()]

    def put_back(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep rows that could not be written until the next time."""
        with self._lock:
            self._left += rows


def _is_of_others(proxy: TaskProxy, outcome: Outcome) -> bool:
    """Tell whether somebody else concluded the run, and counts it: its own transaction found that it came too late."""
    return proxy.is_settled and outcome is Outcome.LOST


def _as_row(minute: int, queue: str, actor: str, counts: _Counts) -> dict[str, Any]:
    return {
        "minute": datetime.fromtimestamp(minute * 60, UTC).isoformat(),
        "queue": queue,
        "actor": actor,
        "started": counts.started,
        "succeeded": counts.succeeded,
        **counts.others,
        "wait_ms": counts.wait_seconds * 1000,
        "run_ms": counts.run_seconds * 1000,
        "waits": list(accumulate(counts.waits)),
        "runs": list(accumulate(counts.runs)),
    }
