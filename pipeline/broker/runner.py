"""One run of one task, from the moment a thread takes it until its outcome is handed to the hub.

Dramatiq's worker thread calls the actor between ``emit_before`` and ``emit_after`` of "process_message"; the broker
passes both on to :class:`Runner`. The order at the end matters:

1. The interrupter lets go of the thread.
2. The hooks run in a capture: what they enqueue and store is collected.
3. If that went wrong, it is the task's failure, and the hooks run again with the error.
4. A transactional actor's transaction writes all of it and the fence row, and commits. If that fails, it is the task's
   failure, and the hooks run once more.
5. Anything else is handed to the hub, which writes it in its next exchange.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg2
from dramatiq.middleware import Shutdown

from pipeline.broker.outcome import VERDICT_TIME_LIMIT, concluded, describe, encode_extra
from pipeline.broker.time_limits import hard_limit_seconds
from pipeline.broker.transaction import CommitUnknown, OwnedTransaction
from pipeline.context import Capture, CurrentTask, NextRun, capturing, enter_task
from pipeline.errors import Cancelled, DatabaseUnavailable, HardTimeLimitExceeded, LeaseLost
from pipeline.logger import get_logger
from pipeline.states import Outcome
from pipeline.store import tasks

if TYPE_CHECKING:
    from pipeline.broker.board import Board
    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy

    Hooks = Callable[[TaskProxy, Any, BaseException | None], None]

log = get_logger(__name__)


class Runner:
    """Begins and ends runs for the broker."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        #: What our master reads; None in a process that has none.
        self._board: Board | None = None
        self._limits: dict[str, float] = {}

    def show_on(self, board: Board) -> None:
        """Note from now on who works here, what runs, and until when it may."""
        self._board = board

    @property
    def is_shown(self) -> bool:
        """Tell whether a master sees what runs."""
        return self._board is not None

    @property
    def crashes(self) -> int:
        """How many processes in the place of this one died young, one after the other, as its master knows."""
        return 0 if self._board is None else self._board.crashes

    def work_as(self, worker_id: int) -> None:
        """Note which worker this process is, before anything is claimed in its name; 0: none."""
        if self._board is not None:
            self._board.worker_id = worker_id

    def take_off(self, proxy: TaskProxy) -> None:
        """Note that a run has ended, or that its thread has."""
        if proxy.slot is not None and self._board is not None:
            self._board.leave(proxy.slot)
            proxy.slot = None

    def begin(self, proxy: TaskProxy) -> None:
        """Make the task the current one of this thread."""
        actor = self._broker.actors.get(proxy.actor_name)
        proxy.task = CurrentTask(
            task_id=proxy.message_id,
            run=proxy.run,
            attempt=proxy.attempt,
            actor=proxy.actor_name,
            queue=proxy.queue_name,
            is_transactional=bool(actor and actor.options.get("transactional")),
            engine=self._broker.engine,
            message=proxy,
            options=dict(proxy.options),
            id=proxy.id,
            lane_id=proxy.lane_id,
        )
        proxy.thread = threading.current_thread()
        proxy.started_at = time.monotonic()
        if self._board is not None:
            limit = self._hard_limit(proxy, {} if actor is None else actor.options)
            proxy.slot = self._board.enter(
                proxy.thread, proxy.id, proxy.run, proxy.started_at, proxy.started_at + limit
            )
        enter_task(proxy.task)
        self._broker.interrupter.begin(proxy.task)

    def _hard_limit(self, proxy: TaskProxy, declared: Mapping[str, Any]) -> float:
        """Tell how many seconds a run may take; what is the same for all messages of an actor is looked up once."""
        default = self._broker.settings.hard_time_limit_seconds
        if proxy.options:
            return hard_limit_seconds(proxy.options, declared, default)
        limit = self._limits.get(proxy.actor_name)
        if limit is None:
            limit = self._limits[proxy.actor_name] = hard_limit_seconds({}, declared, default)
        return limit

    def refuse_doomed(self, proxy: TaskProxy) -> None:
        """Let a run end before its actor is called.

        Raises:
            HardTimeLimitExceeded: The run before it was killed.
            Cancelled: Somebody asked the task to end.
        """
        if proxy.is_cancelled:
            raise Cancelled
        if proxy.options.get("verdict") == VERDICT_TIME_LIMIT:
            raise HardTimeLimitExceeded

    def skip(self, proxy: TaskProxy, hooks: Callable[[], None]) -> None:
        """Conclude a task whose actor a middleware chose not to run."""
        task = self._end(proxy)
        try:
            with capturing(task) as capture:
                hooks()
            proxy.conclusion = concluded(proxy, Outcome.SKIPPED, capture)
        finally:
            enter_task(None)

    def finish(self, proxy: TaskProxy, result: Any, error: BaseException | None, hooks: Hooks) -> None:
        """Conclude a task whose actor returned or raised."""
        task = self._end(proxy)
        try:
            self._finish(proxy, task, result, error, hooks)
        except Exception as broken:
            log.exception("task.not_concluded", task_id=proxy.message_id, run=proxy.run)
            _roll_back(task)
            if not proxy.is_settled:
                proxy.conclusion = concluded(proxy, Outcome.FAILED, None, describe(broken, "refused"))
        finally:
            enter_task(None)

    def _finish(
        self, proxy: TaskProxy, task: CurrentTask, result: Any, error: BaseException | None, hooks: Hooks
    ) -> None:
        if error is not None:
            _roll_back(task)
        capture, error = self._capture(proxy, task, result, error, hooks)
        if error is not None:
            proxy.stuff_exception(error)  # what Results will store may have come up only now
        if error is None and task.transaction is not None:
            error = self._commit(proxy, task, capture)
            if error is not None:
                proxy.stuff_exception(error)
                capture, error = self._capture(proxy, task, None, error, hooks)
        if not proxy.is_settled:
            proxy.conclusion = self._conclude(proxy, capture, error)

    def nack(self, proxy: TaskProxy, hooks: Callable[[], None]) -> None:
        """Run the hooks that follow a failure, which may store its exception, and add what they store."""
        if proxy.task is None or proxy.conclusion is None or proxy.is_settled:
            return hooks()
        enter_task(proxy.task)
        try:
            with capturing(proxy.task) as capture:
                hooks()
        finally:
            enter_task(None)
        if capture.result is not None:
            extra = encode_extra(Capture(result=capture.result), None)
            proxy.conclusion.extra = _merged(proxy.conclusion.extra, extra)
        return None

    def _end(self, proxy: TaskProxy) -> CurrentTask:
        self._broker.interrupter.end()
        self.take_off(proxy)
        assert proxy.task is not None  # noqa: S101 - begin() set it
        enter_task(proxy.task)  # again, if an interruption that is not ours ended the bookkeeping half-way
        return proxy.task

    def _capture(
        self, proxy: TaskProxy, task: CurrentTask, result: Any, error: BaseException | None, hooks: Hooks
    ) -> tuple[Capture, BaseException | None]:
        """Run the hooks; if what they ask for cannot be written, run them again with that as the task's error."""
        if error is None and task.transaction is not None:
            error = _flush(task)
        capture = task.capture = Capture()  # as capturing() does it, which costs more than all of this
        try:
            hooks(proxy, result, error)
        finally:
            task.capture = None
        if error is None and capture.error is not None:
            error = capture.error
            _roll_back(task)
            with capturing(task) as capture:
                hooks(proxy, None, error)
        if error is None and capture.next_run is None:
            capture.next_run = task.next_run
        if isinstance(error, Shutdown):
            capture = _cut_short(task)  # whatever middleware made of it: no failure, and nothing that follows one
        return capture, error

    def _conclude(self, proxy: TaskProxy, capture: Capture, error: BaseException | None) -> Any:
        if isinstance(error, Cancelled):
            return concluded(proxy, Outcome.CANCELLED, None, describe(error))  # and nothing follows
        if capture.next_run is not None:
            outcome = Outcome.RETRY if capture.next_run.is_counted else Outcome.INTERRUPTED
            return concluded(proxy, outcome, capture, error and describe(error, "retry"))
        if error is not None or proxy.failed:
            return concluded(proxy, Outcome.FAILED, capture, error and describe(error))
        return concluded(proxy, Outcome.SUCCEEDED, capture)

    # --- the transaction of a transactional actor --------------------------------------------------------------------

    def _commit(self, proxy: TaskProxy, task: CurrentTask, capture: Capture) -> BaseException | None:
        """Commit writes, sends, result and fence together; return what went wrong, None if it is settled."""
        transaction = task.transaction
        assert isinstance(transaction, OwnedTransaction)  # noqa: S101
        capture.sends = transaction.sends + capture.sends
        conclusion = self._conclude(proxy, capture, None)
        try:
            transaction.seal(self._broker.hub.worker_id, proxy, conclusion)
            if self._broker.probe is not None:
                transaction.write_seal()
                self._broker.emit_point("between_fence_and_commit", proxy)
            transaction.commit()
            proxy.conclusion = conclusion
        except LeaseLost:
            log.warning("task.lease_lost", task_id=proxy.message_id, run=proxy.run)
        except Cancelled as cancelled:
            return cancelled
        except CommitUnknown as unknown:
            if not self._was_committed(proxy):
                return unknown.__cause__ or unknown
            proxy.conclusion = conclusion
        except Exception as error:  # noqa: BLE001 - whatever PostgreSQL refused is the task's failure
            return getattr(error, "orig", error)
        finally:
            transaction.close()
            task.transaction = None
        proxy.is_settled = True
        self._broker.emit_point("settled", proxy)
        if capture.sends or capture.next_run:
            self._broker.hub.wake()
        return None

    def _was_committed(self, proxy: TaskProxy) -> bool:
        """Look for the fence row until PostgreSQL answers: the only one who knows."""
        while True:
            try:
                with self._broker.pool.connection() as connection, connection.cursor() as cursor:
                    return tasks.was_concluded(self._broker.sql, cursor, proxy.id, proxy.run)
            except (psycopg2.Error, DatabaseUnavailable) as error:
                log.warning("commit.unknown", task_id=proxy.message_id, run=proxy.run, error=str(error).strip())
                threading.Event().wait(random.uniform(0.1, 1))  # noqa: S311


def _flush(task: CurrentTask) -> BaseException | None:
    """Write what the session holds back, so that its errors count as the actor's."""
    try:
        task.transaction.flush()  # type: ignore[union-attr]
    except Exception as error:  # noqa: BLE001 - an error of the actor's own writes
        _roll_back(task)
        return error
    return None


def _cut_short(task: CurrentTask) -> Capture:
    kept = {key: value for key, value in task.options.items() if key == "retries"}
    return Capture(next_run=NextRun(0, kept, is_counted=False))


def _roll_back(task: CurrentTask) -> None:
    if task.transaction is not None:
        task.transaction.close()  # type: ignore[attr-defined]
        task.transaction = None


def _merged(first: str | None, second: str | None) -> str | None:
    if first is None or second is None:
        return first or second
    return first[:-1] + "," + second[1:]
