"""What ties a Dramatiq worker to the hub, and a running task to the database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2
from dramatiq.middleware import Middleware

from pipeline.broker import keys, labels, limits, masks, time_limits
from pipeline.broker.hub import Hub
from pipeline.broker.run_queue import RunQueue
from pipeline.broker.task_logs import TaskLogs
from pipeline.broker.transaction import OwnedTransaction, Step
from pipeline.errors import ConfigurationError, DatabaseUnavailable, NotTransactional
from pipeline.logs import drop_arguments
from pipeline.maintenance import Caretaker
from pipeline.store import cancels, tasks

#: How often a task that asks again and again makes us ask the database.
_ASK_SECONDS = 1.0

if TYPE_CHECKING:
    from dramatiq import Actor, Worker

    from pipeline.broker.broker import PostgresBroker
    from pipeline.context import CurrentTask, NewTask
    from pipeline.progress import Progress
    from pipeline.settings import Settings


class Reports(Protocol):
    """Who takes the progress of tasks."""

    def report(self, task_id: str, run: int, progress: Progress) -> None:
        """Take a report of a task's run; 0: of whichever goes on."""


class Engine(Middleware):
    """The part of the broker that lives while a worker runs. Added to every broker, whatever its middleware."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        self._caretaker: Caretaker | None = None
        self._reports: Reports | None = None
        self._logs: TaskLogs | None = None

    # --- the life of a worker ---------------------------------------------------------------------------------------

    def before_worker_boot(self, broker: PostgresBroker, worker: Worker) -> None:
        """Start the hub. It claims nothing before Dramatiq's consumers are in place."""
        if broker.is_working:
            message = "This process already runs a worker of this broker"
            raise ConfigurationError(message)
        worker.work_queue = RunQueue()  # type: ignore[assignment]  # all of a PriorityQueue that a worker uses
        broker.hub = Hub(broker, worker)
        broker.hub.start()
        self._logs = self._listen(broker.settings)
        self._caretaker = Caretaker(broker, broker.hub, self._logs)
        self._caretaker.start()
        self.report_to(self._caretaker.progress)

    def before_worker_shutdown(self, broker: PostgresBroker, worker: Worker) -> None:
        """Claim nothing more; go on beating and writing outcomes until the threads are done."""
        broker.hub.stop_claiming()

    def after_worker_shutdown(self, broker: PostgresBroker, worker: Worker) -> None:
        """Write the last outcomes and end the worker."""
        broker.hub.finish()
        if self._caretaker is not None:
            self._caretaker.stop()
        if self._logs is not None:
            self._logs.leave()
        broker.close()

    def _listen(self, settings: Settings) -> TaskLogs | None:
        """Begin to keep what tasks log, unless nobody wants it."""
        if settings.task_log_level == "OFF":
            return None
        logs = TaskLogs(self, level=settings.task_log_level, limit_bytes=settings.task_log_limit_bytes)
        logs.listen()
        return logs

    def before_declare_actor(self, broker: PostgresBroker, actor: Actor[Any, Any]) -> None:
        """Refuse options of ours that make no sense, where they are written down; let nobody log arguments."""
        actor.logger.addFilter(drop_arguments)
        complaints = (module.wrong(actor.options) for module in (time_limits, limits, keys, labels, masks))
        if (complaint := next(filter(None, complaints), None)) is not None:
            raise ConfigurationError(f"The actor {actor.actor_name}: {complaint}")

    # --- what a running task asks for -------------------------------------------------------------------------------

    def open_transaction(self, task: CurrentTask) -> OwnedTransaction:
        """Open the transaction of a transactional actor."""
        if not task.is_transactional:
            message = f"{task.actor} was not declared with transactional=True, and is not inside a step()"
            raise NotTransactional(message)
        return self._transaction()

    def _transaction(self) -> OwnedTransaction:
        broker = self._broker
        return OwnedTransaction(broker.transactions, broker.sql, broker.hub.worker_id)

    def open_checkpoint(self, task: CurrentTask) -> Any:
        """Take over the checkpoint; return its cursor."""
        broker = self._broker
        with broker.pool.connection() as connection, connection.cursor() as cursor:
            text = tasks.open_checkpoint(broker.sql, cursor, task.id, task.run)
        task.position = None if text is None else json.loads(text)
        task.has_checkpoint = True
        return task.position

    @contextmanager
    def step(self, task: CurrentTask) -> Iterator[Step]:
        """Run a block whose writes, sends and cursor commit together."""
        if task.is_transactional or task.transaction is not None:
            message = "step() is for actors without transactional=True, and steps do not nest"
            raise NotTransactional(message)
        if not task.has_checkpoint:
            self.open_checkpoint(task)
        transaction = task.transaction = self._transaction()
        try:
            step = Step(transaction, task.position)
            yield step
            transaction.flush()
            transaction.save_checkpoint(task, json.dumps(step.cursor))
            transaction.commit()
            task.position = step.cursor
        finally:
            task.transaction = None
            transaction.close()
        self._step_committed(task, transaction.sends)

    def _step_committed(self, task: CurrentTask, sends: list[NewTask]) -> None:
        if sends:
            self._broker.notifier.notify_soon()

    def report_to(self, reports: Reports | None) -> None:
        """Hand what tasks report from now on to somebody; None: to nobody."""
        self._reports = reports

    def report_progress(self, task_id: str, run: int, progress: Progress) -> None:
        """Hand a report to the caretaker, which writes the latest of each run once a second."""
        if self._reports is not None:
            self._reports.report(task_id, run, progress)

    def is_cancelled(self, task: CurrentTask) -> bool:
        """Tell whether somebody asked a task to end; a database that does not answer says nothing."""
        proxy, now = task.message, time.monotonic()
        if not proxy.is_cancelled and now >= task.ask_cancelled_at:
            task.ask_cancelled_at = now + _ASK_SECONDS
            with suppress(psycopg2.Error, DatabaseUnavailable):
                proxy.is_cancelled = task.id in self._cancelled([task.id])
        return bool(proxy.is_cancelled)

    def _cancelled(self, ids: list[int]) -> dict[int, bool]:
        with self._broker.pool.connection() as connection, connection.cursor() as cursor:
            return cancels.requests(self._broker.sql, cursor, ids)
