"""What a process holds for its threads, in the order in which it shall run.

It stands in for the ``queue.PriorityQueue`` of Dramatiq's worker, whose lock is taken five times for each task: by
eight threads, each of which may lose the GIL with the lock in its hand. Here nothing is locked in Python: the heap's
keys are plain numbers, so that each of its operations is one call of C that nobody interrupts, and a
``queue.SimpleQueue`` counts what is in it and wakes who waits.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from queue import Empty, SimpleQueue
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
        #: One for each entry of the heap, put after it and taken before it.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._put, self._done = itertools.count(), itertools.count()

    @property
    def queue(self) -> list[Item]:
        """What is in it, in no order."""
        return [(entry[0], entry[-1]) for entry in list(self._heap)]

    def qsize(self) -> int:
        """Tell about how many there are."""
        return self._tokens.qsize()

    def put(self, item: Item) -> None:
        """Add a task. Never waits."""
        priority, proxy = item
        next(self._put)
        heapq.heappush(self._heap, (priority, proxy.claim_id, proxy.eta, proxy.id, proxy))
        self._tokens.put(None)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take the first task.

        Raises:
            Empty: There is none, or none came in time.
        """
        self._tokens.get(block, timeout)
        try:
            entry = heapq.heappop(self._heap)
        except IndexError:  # a token too many, see knock()
            raise Empty from None
        return entry[0], entry[-1]

    def get_nowait(self) -> Item:
        """Take the first task, if there is one."""
        return self.get(block=False)

    def knock(self) -> None:
        """Let somebody look: a thread that died may have taken a token and left the task."""
        self._tokens.put(None)

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
