"""What was enqueued and waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dramatiq import Actor
from dramatiq.errors import ActorNotFound
from dramatiq.message import get_encoder
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812

from pipeline.broker.enlist import raw_connection, waiting_sends
from pipeline.store import testing
from pipeline.testing.database import ask, broker_in_use, queues_of

if TYPE_CHECKING:
    from pipeline.broker.broker import PostgresBroker
    from pipeline.context import NewTask
    from pipeline.store.testing import WaitingRow

    #: Milliseconds: about so many, or between two numbers.
    Delay = float | tuple[float, float]

#: How far "about" goes.
_SLACK_MS = 1000.0


@dataclass(frozen=True, slots=True)
class EnqueuedTask:
    """A task that waits, due or not."""

    task_id: str
    actor: str
    queue: str
    priority: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: The message's options: what ``send_with_options`` was given besides.
    options: dict[str, Any]
    #: When it may run; of one that is not committed, by this machine's clock.
    eta: datetime
    #: Milliseconds from when it was sent, or from its last run, to its eta.
    delay_ms: float
    #: Its attempts so far: 0, or more if it waits for a retry.
    attempt: int

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        told = f"{self.actor}({', '.join(arguments)}) in {self.queue}"
        told += f", priority {self.priority}" if self.priority else ""
        told += f", after {self.delay_ms:,.0f} ms" if self.delay_ms >= 1 else ""
        told += f", attempt {self.attempt + 1}" if self.attempt else ""
        return told + (f", {self.options}" if self.options else "")


def enqueued(
    actor: Actor[..., Any] | str | None = None, *, queue: str | None = None, within: Any = None
) -> list[EnqueuedTask]:
    """List the tasks that wait, in the order in which they come due.

    Args:
        actor: Only its tasks.
        queue: Only those in this queue.
        within: A transaction (as ``pipeline.enlist`` takes it) whose own tasks count too, though it is not committed.

    Raises:
        ActorNotFound: No such actor is declared.
        QueueUnknown: No such queue is declared.
    """
    broker = broker_in_use()
    name = None if actor is None else _name(broker, actor)
    queues = None if queue is None else queues_of(broker, queue)
    found = [_as_task(row) for row in _rows(broker, within)]
    if within is not None:
        found += map(_as_uncommitted, waiting_sends(within))
    return [each for each in found if name in {None, each.actor} and (queues is None or each.queue in queues)]


def assert_enqueued(  # noqa: PLR0913 - each is something to look at
    actor: Actor[..., Any] | str,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    within: Any = None,
    queue: str | None = None,
    count: int | None = None,
    delay: Delay | None = None,
    eta: datetime | tuple[datetime, datetime] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[EnqueuedTask]:
    """Assert that such a task waits; return those that do.

    Args:
        actor: Its actor, or the actor's name.
        *args: Its positional arguments; with none, and without ``kwargs``, any arguments will do.
        kwargs: Its keyword arguments.
        within: As for :func:`enqueued`.
        queue: Its queue.
        count: How many there are; by default one or more.
        delay: After how many milliseconds it may run, within a second; or the least and the most.
        eta: When it may run, within a second; or the earliest and the latest.
        options: Some of its options.

    Raises:
        AssertionError: There is none, or not ``count``; it lists what waits.
        ActorNotFound: No such actor is declared.
        QueueUnknown: No such queue is declared.
        ValueError: ``count`` is negative, or a pair has its ends the wrong way round, or a time has no zone.
    """
    __tracebackhide__ = True
    if count is not None and (isinstance(count, bool) or count < 0):
        raise ValueError(f"count is a number of tasks, not {count!r}")
    wanted = _Wanted(args, kwargs, queue, _range(delay), _range(eta), options)
    waiting = enqueued(within=within)
    name = _name(broker_in_use(), actor)
    if queue is not None:
        queues_of(broker_in_use(), queue)
    found = [each for each in waiting if each.actor == name and wanted.is_met_by(each)]
    if len(found) != count if count is not None else not found:
        expected = "at least one task" if count is None else f"{count} task{'' if count == 1 else 's'}"
        raise AssertionError(f"expected {expected}, found {len(found)}: {name}{wanted}\n{_listed(waiting)}")
    return found


def assert_not_enqueued(actor: Actor[..., Any] | str, *args: Any, **what: Any) -> None:
    """Assert that no such task waits. Arguments and errors as of :func:`assert_enqueued`, without ``count``."""
    __tracebackhide__ = True
    if "count" in what:
        raise TypeError("assert_not_enqueued() takes no count")
    assert_enqueued(actor, *args, count=0, **what)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a task is expected to be; None: anything."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    queue: str | None
    delay: tuple[Any, Any] | None
    eta: tuple[Any, Any] | None
    options: Mapping[str, Any] | None

    def is_met_by(self, task: EnqueuedTask) -> bool:
        return (
            self._has_arguments(task)
            and self.queue in {None, task.queue}
            and _is_in(self.delay, task.delay_ms)
            and _is_in(self.eta, task.eta)
            and all(_plain(value) == task.options.get(name, self) for name, value in (self.options or {}).items())
        )

    def _has_arguments(self, task: EnqueuedTask) -> bool:
        if not self.args and self.kwargs is None:
            return True
        return [*map(_plain, self.args)] == [*task.args] and {
            name: _plain(value) for name, value in (self.kwargs or {}).items()
        } == task.kwargs

    def __str__(self) -> str:
        any_arguments = not self.args and self.kwargs is None
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in (self.kwargs or {}).items())]
        told = "(…)" if any_arguments else f"({', '.join(arguments)})"
        told += f" in {self.queue}" if self.queue is not None else ""
        told += f", delay {self.delay[0]:,.0f} to {self.delay[1]:,.0f} ms" if self.delay is not None else ""
        told += f", eta {self.eta[0]} to {self.eta[1]}" if self.eta is not None else ""
        return told + (f", options {dict(self.options)}" if self.options else "")


def _name(broker: PostgresBroker, actor: Actor[..., Any] | str) -> str:
    name = actor.actor_name if isinstance(actor, Actor) else actor
    if name not in broker.actors:
        known = ", ".join(sorted(broker.actors)) or "none"
        raise ActorNotFound(f"No actor {name!r} is declared; there is: {known}")
    return name


def _rows(broker: PostgresBroker, within: Any) -> Sequence[WaitingRow]:
    if within is None:
        rows: list[WaitingRow] = ask(broker, testing.waiting)
        return rows
    with raw_connection(within).cursor(cursor_factory=PlainCursor) as cursor:
        return testing.waiting(broker.sql, cursor)


def _as_task(row: WaitingRow) -> EnqueuedTask:
    return _made(row.payload, row.task_id, row.actor, row.queue, row.priority, row.eta, row.delay_ms, row.attempt)


def _as_uncommitted(new: NewTask) -> EnqueuedTask:
    delay = new.delay_ms or 0
    eta = datetime.now(UTC) + timedelta(milliseconds=delay)
    return _made(new.payload, new.message_id, new.actor, new.queue, new.priority, eta, delay, 0)


def _made(payload: str, task_id: str, actor: str, queue: str, priority: int, *when: Any) -> EnqueuedTask:
    fields = get_encoder().decode(payload.encode())
    args, kwargs, options = (fields.get(name) for name in ("args", "kwargs", "options"))
    return EnqueuedTask(task_id, actor, queue, priority, tuple(args or ()), kwargs or {}, options or {}, *when)


def _plain(value: Any) -> Any:
    """Make of a value what it becomes on its way through JSON; what cannot go there may still compare equal."""
    try:
        return get_encoder().decode(get_encoder().encode(value))
    except (TypeError, ValueError):
        return value


def _range(wanted: Any) -> tuple[Any, Any] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, tuple):
        slack = timedelta(milliseconds=_SLACK_MS) if isinstance(wanted, datetime) else _SLACK_MS
        wanted = (wanted - slack, wanted + slack)
    if any(isinstance(end, datetime) and end.tzinfo is None for end in wanted):
        raise ValueError("an eta needs a time zone: datetime.now(UTC) + …")
    if wanted[0] > wanted[1]:
        raise ValueError(f"{wanted[0]} comes after {wanted[1]}")
    return wanted[0], wanted[1]


def _is_in(wanted: tuple[Any, Any] | None, found: Any) -> bool:
    return wanted is None or bool(wanted[0] <= found <= wanted[1])


def _listed(waiting: Sequence[EnqueuedTask]) -> str:
    return "\n".join(["what waits:" if waiting else "nothing waits", *(f"  {each}" for each in waiting)])
