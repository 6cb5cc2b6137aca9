"""What the threads of a worker hand to its hub."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion

#: A run that has ended, what became of a task, or None: look for tasks now.
Item: TypeAlias = "TaskProxy | Conclusion | None"

#: Items taken at a time, at most.
_MOST = 2000


class Handover(SimpleQueue[Item]):
    """Takes whatever comes without a lock: ``put`` is one atomic call."""

    def __init__(self) -> None:
        super().__init__()
        self._left: deque[Item] = deque()

    def leave(self, item: Item) -> None:
        """Put something that need not wake the hub; it is taken with the next that does."""
        self._left.append(item)

    def empty(self) -> bool:
        """Tell whether nothing is there."""
        return not self._left and super().empty()

    def wait(self, seconds: float) -> list[Item]:
        """Take what is there, or what comes first within this time and all that came with it."""
        try:
            first = self.get(timeout=max(seconds, 0.0005))
        except Empty:
            return self.drain()
        return [first, *self.drain()]

    def drain(self) -> list[Item]:
        """Take what is there."""
        items = [self._left.popleft() for _ in range(len(self._left))]
        with suppress(Empty):
            while len(items) < _MOST:
                items.append(self.get_nowait())
        return items
