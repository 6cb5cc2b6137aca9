"""Tasks that get their last chance alone in a process.

A process that dies takes all that runs in it along, and nobody can tell from outside which of the tasks it was. So
each counts a loss; but a task whose next loss would be its last runs with no other beside it. If it is the one, it dies
alone and fails as poison; if it was a neighbour only, it succeeds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.broker.consumer import TaskProxy


class Solitary:
    """Holds such tasks back until nothing else runs here, and lets one after the other begin. Belongs to the hub.

    A task that has never been lost is let in with others even where the first loss is the last
    (``PIPELINE_MAX_LOSSES=1``): else everything would run alone.
    """

    def __init__(self, max_losses: int) -> None:
        self._losses = max(max_losses - 1, 1)
        self.waiting: deque[TaskProxy] = deque()
        self._alone: TaskProxy | None = None

    def takes(self, proxy: TaskProxy) -> bool:
        """Hold a claimed task back if it must be alone."""
        if proxy.losses < self._losses:
            return False
        self.waiting.append(proxy)
        return True

    def reserves(self, held: Mapping[int, TaskProxy]) -> bool:
        """Tell whether the process is kept for such a task, so that nothing else may be claimed."""
        if self._alone is not None and held.get(self._alone.id) is not self._alone:
            self._alone = None
        return self._alone is not None or bool(self.waiting)

    def next(self, held: Mapping[int, TaskProxy]) -> TaskProxy | None:
        """Choose the task that may begin now, since all else that this process holds are tasks like it that wait."""
        if not self.reserves(held) or self._alone is not None or len(held) > len(self.waiting):
            return None
        self._alone = self.waiting.popleft()
        return self._alone

    def dismissed(self, *, everyone: bool) -> list[TaskProxy]:
        """Let go of those that shall not begin here any more: all, or those that somebody asked to end."""
        gone = [proxy for proxy in self.waiting if everyone or proxy.is_cancelled]
        for proxy in gone:
            self.waiting.remove(proxy)
        return gone

    def forget(self) -> None:
        """Hold nothing back any more: the tasks belong to others now."""
        self.waiting.clear()
        self._alone = None
