"""The task that runs in this thread, and what its run asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from pipeline.errors import Cancelled, NoCurrentTask, Snoozed
from pipeline.progress import NOTHING, Progress, advanced

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from sqlalchemy.orm import Session

    #: The ids of messages for which another one stands, and of that one.
    Standing = Mapping[str, str]
    #: Writes new tasks on whatever transaction a cursor has.
    Write = Callable[[Cursor, list["NewTask"]], Standing]


@dataclass(slots=True)
class NewTask:
    """A message made ready for the store: encoded, checked, its lane known to exist.

    Nobody changes one; it is not frozen, since that makes the making of one three times as dear.
    """

    message_id: str
    queue: str
    priority: int
    actor: str
    delay_ms: int | None
    payload: str
    #: What it asks for beyond its place in a lane (see ``pipeline.broker.keys``), as JSON.
    keys: str | None = None
    #: Whether its queue has to be one whose tasks are looked at one by one when they are claimed.
    is_gated: bool = False
    #: Whether its id was made for it just now, so that nobody has to look for an earlier task of that id.
    is_new: bool = False
    #: By what people find it (see ``pipeline.broker.labels``), as JSON.
    labels: str | None = None
    #: The task that sends it, by its number.
    parent: int | None = None

    @property
    def lane(self) -> tuple[str, int, bool]:
        """What has to be there before it can be enqueued: queue, priority, and whether the queue is gated."""
        return self.queue, self.priority, self.is_gated

    @property
    def may_give_way(self) -> bool:
        """Tell whether another task may stand for it, which only the database knows."""
        return self.keys is not None and ('"unique_key"' in self.keys or '"idempotency_key"' in self.keys)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as the store keeps it; ``json`` is None for the result None."""

    json: str | None
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class NextRun:
    """This run does not end the task: it runs again after ``delay_ms``, starting with the options in ``patch``."""

    delay_ms: int
    patch: dict[str, Any]
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class GroupMember:
    """This run's success counts towards a group."""

    group_id: str
    callbacks: list[NewTask]


@dataclass(slots=True)
class Capture:
    """What the hooks of a run ask for. It is written in the transaction of the run's outcome, or not at all."""

    sends: list[NewTask] = field(default_factory=list)
    result: StoredResult | None = None
    next_run: NextRun | None = None
    group: GroupMember | None = None
    #: What went wrong while capturing. Dramatiq swallows a hook's exception; this makes it the task's failure.
    error: Exception | None = None


class TaskTransaction(Protocol):
    """A database transaction that belongs to the engine and not to the code that writes in it."""

    @property
    def session(self) -> Session: ...

    def cursor(self) -> Cursor: ...

    def send(self, task: NewTask) -> None: ...


class Engine(Protocol):
    """What a running task needs of the worker that runs it."""

    def open_transaction(self, task: CurrentTask) -> TaskTransaction: ...

    def open_checkpoint(self, task: CurrentTask) -> Any: ...

    def step(self, task: CurrentTask) -> Any: ...

    def report_progress(self, task_id: str, run: int, progress: Progress) -> None: ...

    def is_cancelled(self, task: CurrentTask) -> bool: ...


@dataclass(slots=True, eq=False)
class CurrentTask:
    """The task this thread runs now."""

    task_id: str
    #: Which run of the task this is: the fence. Always increasing, also over runs that do not count.
    run: int
    #: Which attempt this is, from 1, as ``max_retries`` counts.
    attempt: int
    actor: str
    queue: str
    is_transactional: bool
    engine: Engine
    message: Any
    #: The message's options as they were when the run began.
    options: dict[str, Any]
    id: int
    lane_id: int
    #: What the last committed step left, once :meth:`checkpoint` was called.
    position: Any = None
    has_checkpoint: bool = False
    transaction: TaskTransaction | None = None
    capture: Capture | None = None
    #: Set if the actor enqueued its own message: this run ends in another run.
    next_run: NextRun | None = None
    #: When to ask the database again whether the task was cancelled.
    ask_cancelled_at: float = 0.0
    #: What this run has reported so far.
    reported: Progress = NOTHING

    @property
    def correlation_id(self) -> str | None:
        """What this task has in common with all that the same cause has led to. What it sends has it, too."""
        return self.options.get("correlation_id")

    @property
    def session(self) -> Session:
        """The SQLAlchemy session that commits together with this task.

        Raises:
            NotTransactional: The actor was not declared with ``transactional=True``.
        """
        return self._open().session

    def cursor(self) -> Cursor:
        """Open a psycopg2 cursor in the transaction that commits together with this task.

        Raises:
            NotTransactional: The actor was not declared with ``transactional=True``.
        """
        return self._open().cursor()

    def _open(self) -> TaskTransaction:
        if self.transaction is None:
            self.transaction = self.engine.open_transaction(self)
        return self.transaction

    def joined(self) -> TaskTransaction | None:
        """Return the transaction that sends made by the actor belong to, if there is one."""
        return self._open() if self.is_transactional else self.transaction

    def checkpoint(self) -> Any:
        """Take over the task's checkpoint and return the cursor that the last committed step left; None at first.

        Waits for a step of an earlier run that is about to commit.
        """
        return self.engine.open_checkpoint(self)

    def step(self) -> Any:
        """Open one step of a long task: a block whose writes, sends and ``step.cursor`` commit together.

        Call :meth:`checkpoint` first. A step of a run that was taken over by a later one raises LeaseLost and leaves
        nothing behind.
        """
        return self.engine.step(self)

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked this task to end. Asks the database once a second at most."""
        return self.engine.is_cancelled(self)

    def check_cancelled(self) -> None:
        """End this task here if somebody asked for it; cheap enough for every turn of a loop.

        Raises:
            Cancelled: Somebody did.
        """
        if self.is_cancelled:
            raise Cancelled

    def report(
        self,
        *,
        done: float | None = None,
        total: float | None = None,
        step: str | None = None,
        note: str | None = None,
        percent: float | None = None,
    ) -> None:
        """Report how far the run is, as often as you like: the latest report is written once a second.

        It is visible before the task's own transaction commits, and whether it does. Within a run progress never goes
        back: a report that tells less than an earlier one of the same step is ignored, and the percentage never falls.
        The next run starts anew.

        Args:
            done: How much is done, of whatever ``total`` counts.
            total: How much there is to do. The percentage follows from the two.
            step: What the task is at. Another step than before starts without counts.
            note: Anything else. Of a step's name and a note the first 500 characters are kept.
            percent: How far the whole task is, if the counts do not tell.

        Raises:
            ValueError: A number that is not finite, or negative, or a percentage above 100; a text that is none.
        """
        before = self.reported
        progress = advanced(before, done, total, step, note, percent)
        if progress is not before:
            self.reported = progress
            self.engine.report_progress(self.task_id, self.run, progress)

    def progress(self, percent: float, note: str = "") -> None:
        """Report a percentage and a note; see :meth:`report`."""
        self.report(percent=percent, note=note)

    def snooze(self, seconds: float) -> NoReturn:
        """End this run here and let the task run again later. It does not count as an attempt.

        Whatever a transactional actor wrote is rolled back. Do not catch the exception that this raises.

        Args:
            seconds: How much later; 0 is at once.

        Raises:
            Snoozed: Always; the engine understands it.
            ValueError: ``seconds`` is negative, or no time that a calendar could hold.
        """
        raise Snoozed(delay_ms(seconds))


def delay_ms(seconds: float) -> int:
    """Make whole milliseconds of seconds.

    Raises:
        ValueError: They are negative, or no number that a calendar could hold.
    """
    if not 0 <= seconds <= _LONGEST_SECONDS:
        message = f"A time of {seconds} seconds: it must be from 0 to a thousand years"
        raise ValueError(message)
    return round(seconds * 1000)


#: A thousand years, which added to now is still a date.
_LONGEST_SECONDS = 1000 * 365 * 86_400

_CURRENT: ContextVar[CurrentTask | None] = ContextVar("pipeline_current_task", default=None)


def current_task() -> CurrentTask:
    """Return the task that runs in this thread (or in the coroutine it awaits).

    Raises:
        NoCurrentTask: Called outside an actor, or the actor was called like a plain function.
    """
    task = _CURRENT.get()
    if task is None:
        raise NoCurrentTask
    return task


def find_current_task() -> CurrentTask | None:
    """Return the task that runs in this thread, or None."""
    return _CURRENT.get()


def enter_task(task: CurrentTask | None) -> None:
    """Make a task the current one of this thread; None when it has ended."""
    _CURRENT.set(task)


@contextmanager
def capturing(task: CurrentTask) -> Iterator[Capture]:
    """Collect what hooks enqueue and store while the block runs, instead of writing it."""
    capture = task.capture = Capture()
    try:
        yield capture
    finally:
        task.capture = None


#: The messages of the group that is being run in this thread.
_FORMING: ContextVar[Sequence[str]] = ContextVar("pipeline_forming_group", default=())


def forming_group() -> Sequence[str]:
    """Name the messages of the group that is being run; none if it is not run by ``group.run()``."""
    return _FORMING.get()


@contextmanager
def forming(message_ids: Sequence[str]) -> Iterator[None]:
    """Let the group that is made inside the block know its messages."""
    token = _FORMING.set(message_ids)
    try:
        yield
    finally:
        _FORMING.reset(token)
