"""Tells running tasks that somebody asked them to end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.errors import Cancelled
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.interrupter import Interrupter

_INTERVAL_SECONDS = 1.0
#: A process whose tasks are all shorter than this never asks.
_SHORTEST_SECONDS = 0.25

log = get_logger(__name__)


class Cancels:
    """Asks once a second which tasks of this process shall end, and interrupts those, each once."""

    def __init__(self, interrupter: Interrupter) -> None:
        self._interrupter = interrupter
        self._due = 0.0

    def look_if_due(self, held: Collection[TaskProxy], requested: Callable[[Iterable[int]], Collection[int]]) -> None:
        """Ask about what this process holds, also what has not begun, if one of its tasks has been running a while."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _INTERVAL_SECONDS
        if not any(each.started_at is not None and each.started_at <= now - _SHORTEST_SECONDS for each in held):
            return
        for task_id in requested([each.id for each in held if not each.is_cancelled]):
            for proxy in held:
                if proxy.id == task_id:
                    self._cancel(proxy)

    def _cancel(self, proxy: TaskProxy) -> None:
        # In this order: a thread that begins the task now sees the first, or is in time for the second.
        proxy.is_cancelled = True
        if proxy.task is not None and self._interrupter.interrupt(proxy.task, Cancelled):
            log.info("task.cancelling", task_id=proxy.message_id, run=proxy.run)
