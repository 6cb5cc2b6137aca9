"""What the threads of a worker hand to its hub."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion

#: A run that has ended, what became of a task, or None: look for tasks now.
Item: TypeAlias = "TaskProxy | Conclusion | None"


class Handover:
    """Takes whatever comes, and never waits to take it. The hub alone waits for it.

    Not a ``queue.SimpleQueue``, which may wait for ever: see ``pipeline.broker.run_queue``.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        #: Locked unless something has come since the hub looked last.
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, item: Item) -> None:
        """Put something and wake the hub."""
        self._items.append(item)
        if self._bell.locked():
            with suppress(RuntimeError):  # somebody else was quicker
                self._bell.release()

    def leave(self, item: Item) -> None:
        """Put something that need not wake the hub; it is taken with the next that does."""
        self._items.append(item)

    def empty(self) -> bool:
        """Tell whether nothing is there."""
        return not self._items

    def qsize(self) -> int:
        """Count what is there."""
        return len(self._items)

    def wait(self, seconds: float) -> list[Item]:
        """Take what is there, or what comes first within this time and all that came with it."""
        self._bell.acquire(timeout=max(seconds, 0))
        return self.drain()

    def drain(self) -> list[Item]:
        """Take what is there."""
        return [self._items.popleft() for _ in range(len(self._items))]
