"""Tasks that run where they are sent, at once and in the sender's thread: PIPELINE_EAGER, for development and tests.

An eager broker differs from any other in a few parts, which :func:`make_eager` puts in; the rest is the same code. So
messages become JSON and come back from it, hooks run in their captures, and a retry, a next step or a callback is part
of its run's outcome. Only, there is no database that keeps tasks: this module does with an outcome what the SQL
function ``conclude_runs`` does, in memory. A transactional actor, and a step, has a real transaction, in which nothing
is written but what the actor writes.

There is nobody else to interrupt or to fence, so time limits, leases, priorities and delays mean nothing here.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from contextvars import Context, ContextVar
from dataclasses import dataclass
from itertools import count
from threading import local
from typing import TYPE_CHECKING, Any

from dramatiq.errors import ActorNotFound

from pipeline.broker.consumer import TaskProxy
from pipeline.broker.engine import Engine
from pipeline.broker.enlist import Joined, join
from pipeline.broker.inline import error_of, process
from pipeline.broker.interrupter import Interrupter
from pipeline.broker.messages import decode
from pipeline.broker.outcome import Conclusion
from pipeline.broker.transaction import CommitUnknown, OwnedTransaction
from pipeline.context import NewTask
from pipeline.errors import ConfigurationError, TasksWithoutEnd
from pipeline.logger import get_logger
from pipeline.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dramatiq import Worker
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.broker.broker import PostgresBroker
    from pipeline.context import CurrentTask, Standing
    from pipeline.progress import Progress

#: Actors that send inside actors that send …, at most. Each takes about fifteen frames of Python's stack.
_DEEPEST = 30
#: Tasks that follow from each other, and runs of one task, at most.
_LONGEST = 1000
#: Results that are kept in memory, the newest.
_MOST_RESULTS = 10_000

log = get_logger(__name__)


@dataclass(frozen=True)
class _Send:
    """A send that runs: how many others it lies in, and the errors of all of them."""

    depth: int
    errors: list[BaseException]


_SEND: ContextVar[_Send | None] = ContextVar("pipeline_eager_send", default=None)


def make_eager(broker: PostgresBroker) -> None:
    """Let a broker that is being made run its tasks where they are sent."""
    parts: Any = broker
    parts.eager = parts.sender = parts.hub = Eager(broker)
    parts.engine = EagerEngine(broker)
    parts.interrupter = _NoInterrupter()


class Eager:
    """Runs what is sent, with all that follows from it. It stands in for the sender, and for the hub of a worker."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        self._ids = count(1)
        self._results: OrderedDict[str, str | None] = OrderedDict()
        self._groups: dict[str, int] = {}
        self._positions: dict[int, Any] = {}
        self._held = local()

    # --- as the sender ------------------------------------------------------------------------------------------------

    def ensure_lanes(self, lanes: Iterable[tuple[str, int]]) -> None:
        """Nothing: there are no lanes."""

    def create_group(self, group_id: str, size: int, message_ids: Sequence[str]) -> None:
        """Make a group of ``size`` members."""
        self._groups[group_id] = size

    def send(self, task: NewTask) -> Standing:
        """Run a task. Raises as :meth:`send_many` does."""
        return self.send_many([task])

    def send_many(self, many: list[NewTask]) -> Standing:
        """Run tasks, one after the other, and all that follows from them.

        All of them are run, also if some fail. A send by a task does not raise what went wrong in the task that it
        sent, as it would not with a worker: the sender outside of all tasks gets to know.

        Raises:
            Exception: The error of the first that failed, unless PIPELINE_EAGER_PROPAGATES is off.
            TasksWithoutEnd: They go on and on.
        """
        outer = _SEND.get()
        send = _Send(1, []) if outer is None else _Send(outer.depth + 1, outer.errors)
        if send.depth > _DEEPEST:
            raise TasksWithoutEnd([task.actor for task in many], f"actors that send inside actors, {_DEEPEST} deep")
        # A worker's thread knows nothing of the sender's context: its task, its transaction, its request.
        Context().run(self._work_off, many, send)
        if outer is None and send.errors and self._broker.settings.eager_propagates:
            raise send.errors[0]
        return {}

    # --- as the hub ---------------------------------------------------------------------------------------------------

    @property
    def worker_id(self) -> int:
        """The id of no worker."""
        return 0

    def is_alive(self) -> bool:
        """Tell that no worker runs."""
        return False

    def put(self, proxy: TaskProxy) -> None:
        """Nothing: the conclusion is read from the proxy."""

    def wake(self) -> None:
        """Nothing: nobody sleeps."""

    # --- sends in a caller's transaction ------------------------------------------------------------------------------

    def join(self, target: Any) -> Joined | None:
        """Let sends wait for the commit of a SQLAlchemy session; None for what does not tell when it has committed.

        Raises:
            TypeError: It is no transaction at all.
        """
        found = join(target, self._hold, lambda: self._committed(found))
        return found if hasattr(found, "session") else None

    def _hold(self, _cursor: Cursor, tasks: list[NewTask]) -> Standing:
        """Take what is about to be committed; it takes the place of what was not committed after all."""
        self._held.tasks = tasks
        return {}

    def _committed(self, joined: Any) -> None:
        """Run it when the session has let go of its transaction, so that its locks are gone and it can be used."""
        from sqlalchemy import event

        tasks, self._held.tasks = self._held.tasks, []
        event.listen(joined.session, "after_transaction_end", lambda *_: self.send_many(tasks), once=True)

    # --- results and checkpoints --------------------------------------------------------------------------------------

    def results_of(self, task_ids: Iterable[str]) -> dict[str, str | None]:
        """Return the results that are there, as JSON text."""
        return {task_id: self._results[task_id] for task_id in task_ids if task_id in self._results}

    def position_of(self, task: CurrentTask) -> Any:
        """Return what the last step of a task left, also that of an earlier run."""
        return self._positions.get(task.id)

    def keep_position(self, task: CurrentTask, position: Any) -> None:
        """Keep what a step left for the runs after this one."""
        self._positions[task.id] = position

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _work_off(self, sent: list[NewTask], send: _Send) -> None:
        """Run tasks in their order, then what followed from them."""
        _SEND.set(send)
        waiting = deque((task, 1) for task in sent)
        while waiting:
            task, generation = waiting.popleft()
            if generation > _LONGEST:
                raise TasksWithoutEnd([task.actor], f"{_LONGEST} tasks that each follow from the one before")
            error, following = self._run(task)
            if error is not None:
                send.errors.append(error)
            waiting.extend((each, generation + 1) for each in following)

    def _run(self, task: NewTask) -> tuple[BaseException | None, list[NewTask]]:
        """Run a task until it has ended; return its error and what follows from all of its runs."""
        try:
            self._broker.get_actor(task.actor)
        except ActorNotFound as unknown:
            return unknown, []
        following: list[NewTask] = []
        id, attempt, patch = next(self._ids), 1, None
        for run in range(1, _LONGEST + 1):
            conclusion = self._run_once(task, id, run, attempt, patch)
            if isinstance(error := error_of(conclusion), TasksWithoutEnd):
                raise error  # up through all the actors, none of which may try again
            extra = json.loads(conclusion.extra or "{}")
            if conclusion.ttl_ms is not None:
                extra["ttl"] = conclusion.ttl_ms
            following += self._follow(task.message_id, extra)
            if conclusion.outcome not in {Outcome.RETRY, Outcome.INTERRUPTED}:
                self._positions.pop(id, None)
                return self._error(conclusion), following
            attempt = conclusion.attempt + 1
            patch = json.dumps(extra["patch"]) if extra.get("patch") else patch
        raise TasksWithoutEnd([task.actor], f"{_LONGEST} runs of one task")

    def _run_once(self, task: NewTask, id: int, run: int, attempt: int, patch: str | None) -> Conclusion:
        message = decode(task.message_id, task.queue, task.actor, task.payload, patch)
        proxy = TaskProxy(
            message, id=id, run=run, attempt=attempt, lane_id=0, priority=task.priority, eta=0, claim_id=0
        )
        process(self._broker, proxy)
        assert proxy.conclusion is not None  # noqa: S101 - the runner, or the transaction, left it
        return proxy.conclusion

    def _follow(self, task_id: str, extra: dict[str, Any]) -> list[NewTask]:
        """Keep a run's result, count its group, and return what is to run next."""
        if "ttl" in extra:
            self._results[task_id] = json.dumps(extra["result"]) if "result" in extra else None
            if len(self._results) > _MOST_RESULTS:
                self._results.popitem(last=False)
        following = extra.get("enqueue", [])
        if (group := extra.get("group")) is not None and group["id"] in self._groups:
            self._groups[group["id"]] -= 1
            if self._groups[group["id"]] == 0:
                del self._groups[group["id"]]
                following = following + group["callbacks"]
        return [_as_task(each) for each in following]

    def _error(self, conclusion: Conclusion) -> BaseException | None:
        if conclusion.outcome is not Outcome.FAILED:
            return None
        error = error_of(conclusion)
        proxy = conclusion.proxy
        if not self._broker.settings.eager_propagates:
            log.error("task.failed", task_id=proxy.message_id, actor=proxy.actor_name, exc_info=error)
        return error


def _as_task(fields: dict[str, Any]) -> NewTask:
    """Read what ``messages.as_json`` wrote."""
    return NewTask(fields["m"], fields["q"], fields["p"], fields["a"], fields["d"], json.dumps(fields["b"]))


class EagerEngine(Engine):
    """What a running task asks for, where no worker runs it."""

    def before_worker_boot(self, broker: PostgresBroker, worker: Worker) -> None:
        """Refuse a worker, which would wait for tasks that nobody enqueues."""
        message = "PIPELINE_EAGER is set, so tasks run where they are sent and no worker gets any: unset it here"
        raise ConfigurationError(message)

    def open_checkpoint(self, task: CurrentTask) -> Any:
        """Return what an earlier run of the task left."""
        task.position = self._eager.position_of(task)
        task.has_checkpoint = True
        return task.position

    def report_progress(self, task_id: str, run: int, progress: Progress) -> None:
        """Log a report, since there is no task to show it at."""
        told = {name: value for name, value in progress._asdict().items() if value is not None}
        log.info("task.progress", task_id=task_id, **told)

    def is_cancelled(self, task: CurrentTask) -> bool:
        """Tell that nobody can ask for it: the task is in no database."""
        return False

    def _transaction(self) -> OwnedTransaction:
        broker = self._broker
        return _EagerTransaction(broker.transactions, broker.sql, 0)

    def _step_committed(self, task: CurrentTask, sends: list[NewTask]) -> None:
        self._eager.keep_position(task, task.position)
        self._eager.send_many(sends)

    @property
    def _eager(self) -> Eager:
        assert self._broker.eager is not None  # noqa: S101 - or there would be no EagerEngine
        return self._broker.eager


class _EagerTransaction(OwnedTransaction):
    """A transaction in which only the actor writes: no fence, no tasks, no cursor."""

    def _register(self, worker_id: int) -> None:
        pass

    def seal(self, worker_id: int, proxy: TaskProxy, conclusion: Conclusion) -> None:
        """Nothing: the runner leaves the conclusion at the proxy."""

    def save_checkpoint(self, task: CurrentTask, position: str) -> None:
        """Nothing: it is kept when the step has committed."""

    def commit(self) -> None:
        """Commit; a lost connection is an error like any other, for nobody can look whether it was committed."""
        try:
            super().commit()
        except CommitUnknown as unknown:
            raise unknown.__cause__ or unknown from None


class _NoInterrupter(Interrupter):
    """Interrupts nothing: runs lie inside each other here, in the thread of somebody else."""

    def begin(self, task: CurrentTask) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def limit(self, task: CurrentTask, seconds: float) -> None:
        """Nothing."""
