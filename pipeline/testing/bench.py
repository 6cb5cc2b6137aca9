"""A worker without threads: it claims one task at a time and runs it in the thread of whoever asks."""

from __future__ import annotations

from contextvars import Context
from queue import Empty
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.broker.hub import Hub
from pipeline.broker.inline import process
from pipeline.broker.outcome import Conclusion
from pipeline.broker.run_queue import RunQueue
from pipeline.errors import ConfigurationError
from pipeline.progress import as_json
from pipeline.store import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy
    from pipeline.progress import Progress


class Bench:
    """Registers as a worker for the length of a block. Everything but the threads is a worker's.

    There is nobody who beats, so what runs longer than the lease beside another worker is taken away by it; and nobody
    who looks after time limits.
    """

    def __init__(self, broker: PostgresBroker, queues: Sequence[str]) -> None:
        self._broker = broker
        stand_in: Any = SimpleNamespace(
            worker_threads=1,
            workers=[],
            work_queue=RunQueue(),
            consumers={queue: SimpleNamespace(paused=False) for queue in queues},
        )
        self._hub = _SteppedHub(broker, stand_in)
        for queue in queues:
            self._hub.open_queue(queue)

    def __enter__(self) -> Self:
        if self._broker.is_working:
            raise ConfigurationError("A worker runs in this process, and does the work: stop it, or wait for it")
        self._hub_before = self._broker.hub
        self._broker.hub = self._hub
        self._broker.engine.report_to(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._hub.leave()
        finally:
            self._broker.engine.report_to(None)
            self._broker.hub = self._hub_before

    def run_next(self) -> bool:
        """Run the next task that is due; False if there is none. Its outcome is written before the one after it."""
        proxy = self._hub.take()
        if proxy is not None:
            # A worker's thread knows nothing of the caller's context: its task, its transaction, its request.
            Context().run(process, self._broker, proxy)
            self._hub.write()
        return proxy is not None

    def take_concluded(self) -> list[Conclusion]:
        """Return the runs that have ended since the last call, also those of tasks that nobody here can do."""
        concluded = list(self._hub.concluded.values())
        self._hub.concluded.clear()
        return concluded

    def report(self, task_id: str, run: int, progress: Progress) -> None:
        """Write a task's progress at once."""
        with self._broker.pool.connection() as connection, connection.cursor() as cursor:
            tasks.report_progress(self._broker.sql, cursor, as_json([(task_id, run, progress)]))


class _SteppedHub(Hub):
    """A hub that is no thread: it does the parts of its cycle when it is told to."""

    def __init__(self, broker: PostgresBroker, worker: Any) -> None:
        super().__init__(broker, worker)
        self.concluded: dict[TaskProxy, Conclusion] = {}

    def take(self) -> TaskProxy | None:
        """Claim one task; None if none is due."""
        self._connect()
        self.write()
        while self._exchange([], 1):
            self._attend_solitary()
            try:
                proxy: TaskProxy = self._worker.work_queue.get_nowait()[1]
            except Empty:  # one that cannot be done: it has been refused
                self.write()
            else:
                return proxy
        return None

    def write(self) -> None:
        """Write the outcomes of what has ended."""
        self._take_in(self._inbox.drain())
        while self._pending:
            self._exchange([self._pending.popleft()], 0)

    def leave(self) -> None:
        """Write what is left and end the worker."""
        if self._identity.is_connected:
            self.write()
            self._end()

    def _take_in(self, items: Iterable[TaskProxy | Conclusion | None]) -> None:
        for item in items:
            if item is not None:
                conclusion = item if isinstance(item, Conclusion) else self._conclusion_of(item)
                self.concluded[conclusion.proxy] = conclusion
                super()._take_in([conclusion])

    def _isolate(self, batch: list[Conclusion], error: Exception) -> None:
        super()._isolate(batch, error)
        self.concluded |= {conclusion.proxy: conclusion for conclusion in self._pending}
