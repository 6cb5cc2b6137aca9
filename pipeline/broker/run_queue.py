"""What a process holds for its threads, in the order in which it shall run.

It stands in for the ``queue.PriorityQueue`` of Dramatiq's worker, whose lock is taken five times for each task: by
eight threads, each of which may lose the GIL with the lock in its hand. Here nothing is locked while there is something
to do: the heap's keys are plain numbers, so that each of its operations is one call of C that nobody interrupts.

``queue.SimpleQueue`` would do that, too, but not in time: up to Python 3.12 at least its ``get`` waits for ever if its
time runs out between two looks (it then waits a negative time). A thread that finds nothing waits at a lock of its own.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pipeline.broker.consumer import TaskProxy

    Item: TypeAlias = tuple[int, TaskProxy]

#: How often a caller of join() looks.
_LOOK_SECONDS = 0.005


class RunQueue:
    """A priority queue of (priority, task); those of equal priority come in the order of their claims, etas and ids."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, float, int, TaskProxy]] = []
        #: The locks at which threads wait.
        self._sleepers: deque[threading.Lock] = deque()
        self._put, self._done = itertools.count(), itertools.count()

    @property
    def queue(self) -> list[Item]:
        """What is in it, in no order."""
        return [(entry[0], entry[-1]) for entry in list(self._heap)]

    def qsize(self) -> int:
        """Tell how many there are."""
        return len(self._heap)

    def put(self, item: Item) -> None:
        """Add a task. Never waits."""
        priority, proxy = item
        next(self._put)
        heapq.heappush(self._heap, (priority, proxy.claim_id, proxy.eta, proxy.id, proxy))
        if self._sleepers:
            self.knock()

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take the first task.

        Raises:
            Empty: There is none, or none came in time; or somebody knocked, or was quicker.
        """
        try:
            entry = heapq.heappop(self._heap)
        except IndexError:
            if not block:
                raise Empty from None
            entry = self._wait(-1 if timeout is None else max(timeout, 0))
        return entry[0], entry[-1]

    def _wait(self, seconds: float) -> tuple[int, int, float, int, TaskProxy]:
        bed = threading.Lock()
        bed.acquire()
        self._sleepers.append(bed)
        if not self._heap:  # nor has anything come before the others saw us here
            bed.acquire(timeout=seconds)
        with suppress(ValueError):  # somebody has taken us out to wake us
            self._sleepers.remove(bed)
        try:
            return heapq.heappop(self._heap)
        except IndexError:
            raise Empty from None

    def get_nowait(self) -> Item:
        """Take the first task, if there is one."""
        return self.get(block=False)

    def knock(self) -> None:
        """Let one who waits look: a task has come, or a thread that was to take it has died, or it shall stop."""
        with suppress(IndexError):  # nobody waits any more
            self._sleepers.popleft().release()

    def task_done(self) -> None:
        """Count off a task that was taken."""
        next(self._done)

    def join(self) -> None:
        """Wait until all that was put has been counted off."""
        while _count(self._done) < _count(self._put):
            threading.Event().wait(_LOOK_SECONDS)


def _count(counter: itertools.count[int]) -> int:
    """Read a counter without counting: its next value."""
    return int(repr(counter)[6:-1])


__all__ = ["Empty", "RunQueue"]
