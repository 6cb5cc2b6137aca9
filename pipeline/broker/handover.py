"""What the threads of a worker hand to its hub."""

from __future__ import annotations

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

    def wait(self, seconds: float) -> list[Item]:
        """Take what is there, or what comes first within this time and all that came with it."""
        try:
            first = self.get(timeout=max(seconds, 0.0005))
        except Empty:
            return []
        return [first, *self.drain()]

    def drain(self) -> list[Item]:
        """Take what is there."""
        items: list[Item] = []
        with suppress(Empty):
            while len(items) < _MOST:
                items.append(self.get_nowait())
        return items
