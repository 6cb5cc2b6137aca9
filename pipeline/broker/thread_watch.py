"""Notices threads of Dramatiq's worker that died, and what each of them had in its hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.broker.running import PlacedRun
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dramatiq import Worker

    from pipeline.broker.consumer import TaskProxy

log = get_logger(__name__)


class ThreadWatch:
    """Looks after the threads of a worker, about once a second.

    A thread dies when an exception leaves Dramatiq's bookkeeping around a task: raised by a middleware, or from outside
    by Dramatiq's own TimeLimit. It may have taken a task from the work queue and not have begun it, and then nobody
    knows which; but that task neither waits in the queue nor has a thread, now and at the next look.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._queue: Any = worker.work_queue  # a RunQueue by now
        self._suspects: set[TaskProxy] = set()
        #: Set when a thread died under a task: a supervisor should replace this process.
        self.has_lost_one = False

    def dropped(self, held: Iterable[TaskProxy]) -> list[TaskProxy]:
        """List the tasks whose threads are gone."""
        held = list(held)
        waiting = {proxy for _, proxy in self._queue.queue}
        untouched = {proxy for proxy in held if proxy.thread is None and proxy not in waiting}
        stranded = self._suspects & untouched
        self._suspects = untouched - stranded if self._dead() else set()
        return [proxy for proxy in held if proxy.thread is not None and not proxy.thread.is_alive()] + list(stranded)

    def placed(self, begun: Iterable[TaskProxy]) -> list[PlacedRun]:
        """Tell in which of the worker's threads each of these runs goes on."""
        places: dict[object, int] = {thread: place for place, thread in enumerate(self._worker.workers, 1)}
        return [PlacedRun(each.id, each.run, each.started_at or 0.0, 0.0, places.get(each.thread, 0)) for each in begun]

    def replace(self, *, is_needed: bool) -> None:
        """Take dead threads out of the worker; put new ones in their places while it still works."""
        for thread in self._dead():
            log.error("thread.died", thread=thread.name)
            self.has_lost_one = True
            self._worker.workers.remove(thread)
            self._queue.knock()
            if is_needed:
                self._worker._add_worker()  # noqa: SLF001 - Dramatiq has no public way to replace a thread

    def _dead(self) -> list[Any]:
        return [each for each in self._worker.workers if each.running and not each.is_alive()]
