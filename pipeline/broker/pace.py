"""How many tasks a worker process holds at a time, and from where it takes them first."""

import math
import time

#: Tasks held in memory while they are tiny, at most.
_MOST_PREFETCHED = 1024
#: Tasks are tiny if a run takes less than this on average.
_TINY_SECONDS = 0.005
#: How far ahead a process takes tasks, in the time its threads need for them; and from where on they go back, since
#: other processes may have nothing to do. Wide apart: the mean time of tiny tasks goes up and down.
_AHEAD_SECONDS = 0.05
_TOO_FAR_SECONDS = 0.3
#: A stream is so many tasks within so many seconds. In it exchanges begin so far apart: one costs as much for one task
#: as for ten, and commits of workers hold up those of senders, since a disk does one at a time.
_STREAM_TASKS = 15
_STREAM_SECONDS = 0.05
_APART_SECONDS = 0.008
#: Before every priority.
_FIRST = -32769
#: Unstarted tasks go back if they have waited this long and no thread has come free meanwhile.
_STALLED_SECONDS = 0.1


class Pace:
    """How many tasks to hold: as many as there are threads, and more only while tasks are tiny."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._prefetch = 0
        self._mean_seconds = 1.0
        self.ended_runs = 0
        self._last_end = self._waiting_since = self._claimed_at = time.monotonic()
        #: Tasks claimed lately, each of which counts less as time goes by.
        self._recent = 0.0

    def target(self) -> int:
        """Tell how many tasks to hold, running ones included."""
        return self._threads + self._prefetch

    def is_supplied(self, waiting: int) -> bool:
        """Tell whether the threads have something to go on with: as many tasks wait in this process."""
        return waiting >= self._threads

    def is_worth(self, room: int, waiting: int) -> bool:
        """Tell whether to claim: a claim costs as much for one task as for twenty, but no thread shall wait for it."""
        return room > 0 and (room >= self.target() // 4 or not self.is_supplied(waiting))

    def ended(self, seconds: float) -> None:
        """Learn how long a run took."""
        self.ended_runs += 1
        self._last_end = time.monotonic()
        self._mean_seconds += 0.05 * (seconds - self._mean_seconds)

    def claimed(self, count: int, want: int, held: int) -> None:
        """Grow while tasks are tiny and there are always more; shrink at once when they are not.

        Args:
            count: How many tasks the claim brought.
            want: How many it asked for.
            held: How many there were before.
        """
        now = time.monotonic()
        self._recent = self._recent * math.exp((self._claimed_at - now) / _STREAM_SECONDS) + count
        self._claimed_at = now
        if held <= self._threads:
            self._waiting_since = now
        if self._mean_seconds > _TINY_SECONDS:
            self._prefetch = 0
        elif count == want:
            self._prefetch = min(_MOST_PREFETCHED, max(2 * self._prefetch, self._threads), self._room(_AHEAD_SECONDS))

    def pause(self, began_at: float) -> float:
        """Tell how many seconds the next exchange should wait, if the last one began then and left nothing behind."""
        if self._recent < _STREAM_TASKS:
            return 0.0
        return max(0.0, began_at + _APART_SECONDS - time.monotonic())

    def is_stalled(self, held: int) -> bool:
        """Tell whether tasks wait here behind slow ones: nothing ends, or they take longer than it seemed."""
        since = max(self._last_end, self._waiting_since)  # the last end alone may lie before an idle hour
        if held <= self._threads:
            return False
        if time.monotonic() - since >= _STALLED_SECONDS:
            self._mean_seconds = 1.0
        elif held - self._threads <= self._room(_TOO_FAR_SECONDS):
            return False
        self._prefetch = 0
        return True

    def _room(self, seconds: float) -> int:
        return int(self._threads * seconds / max(self._mean_seconds, 1e-6))


class Turns:
    """Lets a lane that is not the most urgent come first now and then, so that a flood of urgent tasks starves none.

    Args:
        share: Of how many claims one does so: 0.1 is every tenth, 0 is none.
    """

    def __init__(self, share: float) -> None:
        self._every = round(1 / share) if share else 0
        self._claims = 0
        self._is_turn = False

    def next(self) -> int | None:
        """Tell whose turn it is in this claim: a lane's place, counted round and round; None for the strict order."""
        self._claims += 1
        self._is_turn = self._every > 0 and self._claims % self._every == 0
        return self._claims // self._every if self._is_turn else None

    def place(self, priority: int) -> int:
        """Tell where a task of the last claim stands in this process: what came in its turn must not wait again."""
        return _FIRST if self._is_turn else priority
