"""Every exception the project raises, in one tree.

::

    PipelineError
    ├── ConfigurationError          a setting, an address or a file of ours is wrong
    ├── DatabaseUnavailable         also a dramatiq.errors.ConnectionError
    ├── QueryTimedOut               an answer would take longer than is allowed
    ├── EmbeddedServerError         the PostgreSQL we wanted to start
    ├── SchemaOutdated              "run: pipeline migrate"
    ├── MigrationChanged            an applied file was edited
    ├── EnqueueNotCommitted         a request sent tasks and never committed
    ├── MessageNotEncodable         also a ValueError: arguments or a result that JSON or PostgreSQL cannot hold
    │   └── MessageTooLarge         over the limit, nothing was stored
    ├── TaskIsRunning               the same message was enqueued again while it runs
    ├── LeaseLost                   a later run owns the task
    ├── TransactionOwned            commit() inside a transactional actor
    ├── NotTransactional            a session was asked for outside a transaction of the engine
    ├── NoCurrentTask               current_task() outside an actor
    ├── TaskNotFound                an unknown task id
    ├── ActorUnknown                no worker has announced an actor of this name
    ├── GateUnknown                 neither an actor nor a tenant nor a key
    ├── QueueUnknown                also a dramatiq.errors.QueueNotFound
    ├── WorkerUnknown               an unknown worker number, or nobody on that host
    ├── WorkerEnded                 it is not alive any more
    ├── TokenUnknown                no token of this name
    ├── TokenExists                 a live token has this name
    ├── HardTimeLimitExceeded       the run before was killed with its process
    ├── TasksWithoutEnd             tasks that were to run inline, or to be drained, keep coming
    ├── TaskFailed                  a run failed with an error of which only the text is known
    ├── TaskNotSucceeded            who waited for its result gets to know how it ended
    ├── TaskConflict                the task's state does not allow it
    │   └── TaskNotCancellable      it has ended
    ├── DuplicateTask               another task has the key
    ├── ScheduleInvalid             also a ValueError: a schedule cannot be as it was written
    ├── ScheduleUnknown             there is no schedule of this name
    ├── ScheduleConflict            it exists already, or somebody else has changed it meanwhile
    │   ├── ScheduleDeclared        it is declared in code, and changed there
    │   └── ScheduleOverlaps        its last task has not ended, and it says that the next one is to be left out
    ├── ReadOnly                    somebody wrote through an object that only reads
    └── Snoozed                     also a dramatiq.errors.Retry: current_task().snooze() ends the run

    dramatiq.middleware.Interrupt   raised in a running task from outside, no Exception
    └── Cancelled                   somebody asked the task to end

A caller that can react differently gets a class of its own, with the data as attributes. The first line of a class's
docstring is its message when none is given.
"""

from collections.abc import Sequence
from typing import Self

from dramatiq import errors as dramatiq_errors
from dramatiq.middleware import Interrupt


class PipelineError(Exception):
    """Something went wrong in the task queue."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _first_line(type(self)))


def _first_line(error: type[PipelineError]) -> str:
    """Take the default message from the docstring, so that the two cannot disagree."""
    return (error.__doc__ or error.__name__).strip().splitlines()[0]


class ConfigurationError(PipelineError):
    """A setting, an address or a file of the installation is wrong."""


class DatabaseUnavailable(PipelineError, dramatiq_errors.ConnectionError):
    """PostgreSQL does not answer.

    Being a Dramatiq ConnectionError too, it is what code written for any Dramatiq broker expects from ``send()``.
    """

    def __init__(self, endpoint: str | None = None, reason: str | None = None) -> None:
        self.endpoint = endpoint
        self.reason = reason
        told = f"PostgreSQL does not answer at {endpoint}" if endpoint else "PostgreSQL does not answer"
        super().__init__(f"{told}: {reason}" if reason else told)


class QueryTimedOut(PipelineError):
    """The answer would take too long to find; ask for less."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        super().__init__(f"The answer was not found within {seconds:g} s; ask for less" if seconds else None)


class EmbeddedServerError(PipelineError):
    """The embedded PostgreSQL server cannot be used."""


class SchemaOutdated(PipelineError):
    """The database's schema is older than this code. Run: pipeline migrate."""

    def __init__(self, schema: str, missing: Sequence[str]) -> None:
        self.schema = schema
        self.missing = tuple(missing)
        names = ", ".join(self.missing)
        super().__init__(f'The schema "{schema}" is older than this code (missing: {names}). Run: pipeline migrate')


class MigrationChanged(PipelineError):
    """A migration that was already applied has been edited; write a new one instead."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The migration {name} was edited after it had been applied; write a new one instead")


class EnqueueNotCommitted(PipelineError):
    """Tasks were sent in a transaction that nobody committed; they were not enqueued."""


class ReadOnly(PipelineError):
    """This is a view of the queue; tasks change by commands, such as pipeline.cancel()."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} only reads a view of the queue; tasks change by commands, such as pipeline.cancel()")


class LeaseLost(PipelineError):
    """The lease ran out; the task belongs to a later run now."""


class MessageNotEncodable(PipelineError, ValueError):
    """The message or the result cannot be written as JSON that PostgreSQL accepts; nothing was stored."""


class MessageTooLarge(MessageNotEncodable):
    """The message or the result is larger than the limit; nothing was stored."""

    def __init__(self, what: str | None = None, size: int = 0, limit: int = 0) -> None:
        self.size = size
        self.limit = limit
        told = f"{what} has {size:,} bytes of JSON; the limit (PIPELINE_MESSAGE_LIMIT_BYTES) is {limit:,}"
        super().__init__(f"{told}; nothing was stored" if what else None)


class TaskIsRunning(PipelineError):
    """The task runs now; enqueue it again when it has finished, or send a new message."""


class NotTransactional(PipelineError):
    """Only actors declared with transactional=True, and steps, have a transaction to write in."""


class NoCurrentTask(PipelineError):
    """There is no current task: this code runs outside an actor, or the actor was called like a function."""


class TaskNotFound(PipelineError):
    """There is no task with this id."""

    def __init__(self, task_id: str | None = None) -> None:
        self.task_id = task_id
        super().__init__(f"There is no task {task_id}" if task_id else None)


class HardTimeLimitExceeded(PipelineError):
    """The run went beyond its hard time limit, and its process was killed."""


class ActorUnknown(PipelineError):
    """No worker has announced an actor of this name."""

    def __init__(self, actor: str | None = None) -> None:
        self.actor = actor
        super().__init__(f"No worker has announced an actor {actor}" if actor else None)


class GateUnknown(PipelineError):
    """There is no such gate."""

    def __init__(self, gate: str | None = None) -> None:
        self.gate = gate
        hint = "actor:NAME and key:NAME can be paused and limited, tenant:NAME can be paused"
        super().__init__(f"There is no gate {gate} to do that with: {hint}" if gate else None)


class QueueUnknown(PipelineError, dramatiq_errors.QueueNotFound):
    """There is no queue of this name."""

    def __init__(self, queue: str | None = None) -> None:
        self.queue = queue
        super().__init__(f"There is no queue {queue}" if queue else None)


class WorkerUnknown(PipelineError):
    """There is no worker that is alive."""

    def __init__(self, worker_id: int | None = None, host: str | None = None) -> None:
        self.worker_id = worker_id
        self.host = host
        told = f"There is no worker {worker_id}" if worker_id is not None else None
        super().__init__(told or (f"There is no worker that is alive on the host {host}" if host else None))


class WorkerEnded(PipelineError):
    """The worker is not alive any more."""

    def __init__(self, worker_id: int, state: str) -> None:
        self.worker_id = worker_id
        self.state = state
        super().__init__(f"The worker {worker_id} is {state}; only one that is alive can be drained")


class TokenUnknown(PipelineError):
    """There is no token of this name."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        super().__init__(f"There is no token {token}, or it has been revoked" if token else None)


class TokenExists(PipelineError):
    """There is a token of this name already."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        hint = "take another name, or revoke that one first"
        super().__init__(f"There is a token {token} already: {hint}" if token else None)


class TaskConflict(PipelineError):
    """The state of the task does not allow it; nothing has changed."""

    def __init__(self, task_id: str, state: str, what: str = "nothing has changed") -> None:
        self.task_id = task_id
        self.state = state
        super().__init__(f"The task {task_id} is {state}; {what}")


class TaskNotCancellable(TaskConflict):
    """The task has ended; only one that waits or runs can be cancelled."""

    def __init__(self, task_id: str, state: str) -> None:
        super().__init__(task_id, state, "only one that waits or runs can be cancelled")


class DuplicateTask(PipelineError):
    """Another task has this key; nothing was enqueued."""

    def __init__(self, key: str | None = None, task_id: str | None = None) -> None:
        self.key = key
        self.task_id = task_id
        super().__init__(f'The key "{key}" is held by the task {task_id}; nothing was enqueued' if key else None)


class ScheduleInvalid(PipelineError, ValueError):
    """A schedule cannot be like this; nothing was stored.

    ``field`` is the attribute of the schedule that is wrong, ``reason`` says what about it, and what to write instead.
    """

    def __init__(self, field: str | None = None, reason: str = "", schedule: str | None = None) -> None:
        self.field = field
        self.reason = reason
        self.schedule = schedule
        which = f"The schedule {schedule}" if schedule else "The schedule"
        super().__init__(f"{which} is not valid: {field}: {reason}" if field else None)

    def of(self, schedule: str) -> Self:
        """Say the same of a schedule by its name."""
        return type(self)(self.field, self.reason, schedule)


class ScheduleUnknown(PipelineError):
    """There is no schedule of this name."""

    def __init__(self, schedule: str | None = None) -> None:
        self.schedule = schedule
        super().__init__(f"There is no schedule {schedule}" if schedule else None)


class ScheduleConflict(PipelineError):
    """The schedule is not as was expected; nothing has changed."""

    def __init__(self, schedule: str | None = None, reason: str = "") -> None:
        self.schedule = schedule
        super().__init__(f"The schedule {schedule} {reason}" if schedule else None)


class ScheduleDeclared(ScheduleConflict):
    """The schedule is declared in code, and is changed there."""

    def __init__(self, schedule: str, declared_by: str, what: str = "change it there") -> None:
        self.declared_by = declared_by
        super().__init__(schedule, f"is declared in the module {declared_by}; {what}")


class ScheduleOverlaps(ScheduleConflict):
    """The last task of the schedule has not ended, and it says that the next one is to be left out."""

    def __init__(self, schedule: str, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            schedule, f"has a task that has not ended, {task_id}, and does not overlap; nothing was enqueued"
        )


class Snoozed(PipelineError, dramatiq_errors.Retry):
    """The run ends here, uncounted, and the task runs again later."""

    def __init__(self, delay_ms: int) -> None:
        super().__init__(f"the task runs again after {delay_ms / 1000:g} s")
        #: Milliseconds, as in Dramatiq's Retry.
        self.delay = delay_ms


class TasksWithoutEnd(PipelineError):
    """Tasks keep coming, more than were to be run."""

    def __init__(self, actors: Sequence[str] = (), seen: str | None = None) -> None:
        self.actors = tuple(actors)
        told = f"Tasks of {', '.join(sorted(set(actors)))} keep coming: {seen}"
        super().__init__(told if actors else None)


class TaskFailed(PipelineError):
    """A task failed."""

    def __init__(self, task_id: str | None = None, error: str = "", text: str = "") -> None:
        self.task_id = task_id
        super().__init__(f"The task {task_id} failed: {error}: {text}" if task_id else None)


class TaskNotSucceeded(PipelineError):
    """The task ended without success, so there is no result."""

    def __init__(self, task_id: str | None = None, state: str = "", error: str | None = None) -> None:
        self.task_id = task_id
        self.state = state
        self.error = error
        told = f"The task {task_id} is {state}" + (f": {error}" if error else "")
        super().__init__(told if task_id else None)


class TransactionOwned(PipelineError):
    """The transaction belongs to the transactional actor; it commits when the actor returns."""


class Cancelled(Interrupt):
    """Somebody asked this task to end.

    Raised in the thread of a running task, at any of its lines, and by ``current_task().check_cancelled()``. Let it
    pass, or clean up and raise it again: the task ends as cancelled either way.
    """
