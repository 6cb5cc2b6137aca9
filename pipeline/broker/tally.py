"""How the runs of this process ended: counted in memory by minute, queue and actor, until somebody writes it down."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from datetime import UTC, datetime
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
#: Times that are noted before they are added up.
_MOST_NOTED: Final = 2000


class _Times:
    """How long runs waited, or took: added up now and then, since a busy process has 100,000 of them in ten seconds."""

    __slots__ = ("counts", "noted", "seconds")

    def __init__(self) -> None:
        self.noted: list[float] = []
        self.seconds = 0.0
        #: How many took no longer than each bound, and how many there are.
        self.counts = [0] * (len(BOUNDS) + 1)

    def add_up(self, offset: float = 0.0) -> None:
        """Add what was noted, each time greater by ``offset``; one below zero is none."""
        ordered = sorted(max(each + offset, 0.0) for each in self.noted)
        self.noted.clear()
        self.seconds += sum(ordered)
        for place, bound in enumerate(BOUNDS):
            self.counts[place] += bisect_right(ordered, bound)
        self.counts[-1] += len(ordered)


class _Counts:
    """What ended in one minute of one queue and actor."""

    __slots__ = ("others", "others_begun", "runs", "waits")

    def __init__(self) -> None:
        #: Of each run that began: how long it took; and when it began less when it was due, by two different clocks.
        self.runs = _Times()
        self.waits = _Times()
        #: Of those that did not succeed, how many ended how; and how many had begun. All others of ``runs`` succeeded.
        self.others = dict.fromkeys(_OTHERS.values(), 0)
        self.others_begun = 0

    def add_up(self, offset: float) -> None:
        """Add up what was noted; ``offset`` is what one clock is ahead of the other."""
        self.runs.add_up()
        self.waits.add_up(offset)


class Tally:
    """Takes what the hub concluded; gives it to whoever writes it. Both at any time, from threads of their own.

    A run costs half a microsecond: it is noted down, and added up when it is taken. Minutes and waits are those of the
    database's clock, for this machine's may be wrong by hours. So somebody has to tell, before the first run and again
    and again, what that one shows.
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
        """Note runs whose outcomes have been written."""
        queue = actor = None
        since = until = 0.0
        with self._lock:
            for each in conclusions:
                proxy, finished_at = each.proxy, each.finished_at
                # Most are as the one before, which is told more quickly than a key is made and hashed.
                if not since <= finished_at < until or proxy.actor_name != actor or proxy.queue_name != queue:
                    minute = int((finished_at + self._offset) // 60)
                    since = minute * 60 - self._offset
                    until = since + 60
                    queue, actor = proxy.queue_name, proxy.actor_name
                    counts = self._rows.setdefault((minute, queue, actor), _Counts())
                if each.outcome is not _SUCCEEDED and not _note_other(counts, proxy, each.outcome):
                    continue
                started_at: float = proxy.started_at  # type: ignore[assignment]
                counts.runs.noted.append(finished_at - started_at)
                counts.waits.noted.append(started_at - proxy.eta)
            for counts in self._rows.values():
                if len(counts.runs.noted) >= _MOST_NOTED:
                    counts.add_up(self._offset)

    def take(self) -> list[dict[str, Any]]:
        """Take what was counted since the last time, as rows of ``stat_minute``, to be written by the caller."""
        with self._lock:
            rows, self._rows = self._rows, {}
            left, self._left = self._left, []
        return left + [_as_row(*key, counts, self._offset) for key, counts in rows.items()]

    def put_back(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep rows that could not be written until the next time."""
        with self._lock:
            self._left += rows


def _note_other(counts: _Counts, proxy: TaskProxy, outcome: Outcome) -> bool:
    """Note a run that did not succeed; tell whether it had begun."""
    if proxy.is_settled and outcome is Outcome.LOST:
        return False  # its own transaction came too late: somebody else concluded the run, and counts it
    counts.others[_OTHERS[outcome]] += 1
    has_begun = proxy.started_at is not None
    counts.others_begun += has_begun
    return has_begun


def _as_row(minute: int, queue: str, actor: str, counts: _Counts, offset: float) -> dict[str, Any]:
    counts.add_up(offset)
    started = counts.runs.counts[-1]
    return {
        "minute": datetime.fromtimestamp(minute * 60, UTC).isoformat(),
        "queue": queue,
        "actor": actor,
        "started": started,
        "succeeded": started - counts.others_begun,
        **counts.others,
        "wait_ms": counts.waits.seconds * 1000,
        "run_ms": counts.runs.seconds * 1000,
        "waits": counts.waits.counts,
        "runs": counts.runs.counts,
    }
