"""The composition root: the one broker of a process, made of the settings, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import dramatiq
import psycopg2

from pipeline.broker.broker import PostgresBroker
from pipeline.broker.composition import install, message_ids
from pipeline.broker.enlist import raw_connection
from pipeline.broker.sender import translated
from pipeline.commands.cancel import cancel_task, cancel_together, milliseconds
from pipeline.commands.cancel import cancel_where as cancel_in_store
from pipeline.commands.queues import pause_queue as pause_in_store
from pipeline.commands.queues import resume_queue as resume_in_store
from pipeline.commands.workers import drain_workers
from pipeline.db.dsn import Dsn
from pipeline.db.pool import DISCONNECTED
from pipeline.errors import ConfigurationError, DatabaseUnavailable
from pipeline.store.cancels import CancelCounts, Request

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.states import TaskState

P = ParamSpec("P")
R = TypeVar("R")


@cache
def get_broker() -> PostgresBroker:
    """Return the broker of this process, making it at first and giving it to Dramatiq as the global one."""
    install()
    broker = PostgresBroker()
    dramatiq.set_broker(broker)
    return broker


def install_broker() -> None:
    """Make the broker when the package is imported, so that nobody has to think of it before the first actor.

    A wrong configuration is not told to whoever imports the package, which may be a program that wants to say so in
    good order, but to the first who uses the broker.
    """
    try:
        get_broker()
    except ConfigurationError as error:
        dramatiq.set_broker(_Misconfigured(error))  # type: ignore[arg-type]


class _Misconfigured:
    """Stands for the broker that cannot be made, and says why."""

    def __init__(self, error: ConfigurationError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


@overload
def actor(fn: Callable[P, R], **options: Any) -> dramatiq.Actor[P, R]: ...


@overload
def actor(fn: None = None, **options: Any) -> Callable[[Callable[P, R]], dramatiq.Actor[P, R]]: ...


def actor(fn: Callable[P, R] | None = None, **options: Any) -> Any:
    """Declare an actor on this process's broker; otherwise ``dramatiq.actor``.

    Options of ours: ``transactional`` (its database writes, its sends and its outcome commit together), ``jitter`` and
    ``retry_for`` (see :class:`pipeline.middleware.retries.Retries`).
    """
    options.setdefault("broker", dramatiq.get_broker())
    return dramatiq.actor(fn, **options)


def send_many(messages: Iterable[dramatiq.Message[Any]], *, delay: float | None = None) -> list[dramatiq.Message[Any]]:
    """Enqueue many messages in one statement, all or none; in the transaction they belong to, if there is one."""
    return our_broker().send_many(messages, delay=delay)


@contextmanager
def enlist(target: Any, *, at_exit: bool = False) -> Iterator[None]:
    """Let the sends inside the block belong to the caller's transaction.

    Args:
        target: A psycopg2 connection, a SQLAlchemy Session (or scoped_session) or a SQLAlchemy Connection.
        at_exit: For a psycopg2 connection only: write everything as one statement when the block ends, instead of each
            send at once. Commit after the block, and set no savepoints inside it.
    """
    with our_broker().enlist(target, at_exit=at_exit):
        yield


def pause_queue(
    queue: str, *, who: str, reason: str = "", resume_after: timedelta | None = None, target: Any = None
) -> None:
    """Let no worker claim tasks of a queue any more, from its next claim on; what runs goes on.

    Args:
        queue: Its name.
        who: Whom the audit trail names.
        reason: Why, for whoever wonders.
        resume_after: When it ends by itself; by default somebody resumes the queue.
        target: A transaction of the caller's, as for :func:`cancel`.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: ``resume_after`` is not above 0.
    """
    command(target, partial(pause_in_store, queue=queue, who=who, reason=reason, resume_after=resume_after))


def resume_queue(queue: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let workers claim tasks of a queue again; one that is not paused stays as it is. Arguments as above.

    Raises:
        QueueUnknown: There is no such queue.
    """
    command(target, partial(resume_in_store, queue=queue, who=who, reason=reason))


def drain_worker(worker_id: int, *, who: str, reason: str = "") -> None:
    """Let a worker claim nothing more, finish its tasks and end; its master puts no other in its place.

    It learns that with its next beat. Draining it again changes nothing. This is a transaction of its own, for it locks
    the row that the worker beats in.

    Args:
        worker_id: Its number, as ``worker_status`` shows it.
        who: Whom the audit trail names.
        reason: Why, for whoever wonders.

    Raises:
        WorkerUnknown: There is no such worker.
        WorkerEnded: It is not alive any more; ``state`` says how it ended.
    """
    ask(drain_workers, worker_ids=[worker_id], who=who, reason=reason)


def cancel(
    what: str | dramatiq.Message[Any] | dramatiq.group | dramatiq.pipeline,
    *,
    who: str,
    reason: str = "",
    force: bool = False,
    grace: timedelta = timedelta(seconds=5),
    whole: bool = False,
    target: Any = None,
) -> TaskState:
    """Cancel a task, a chain or a group. What waits is gone at once; what runs is asked to end.

    A running task gets :class:`pipeline.Cancelled` raised in its thread, within two seconds. It ends as cancelled
    whatever it does then, and runs no more, unless it succeeded or failed for good before this was committed.
    Cancelling again changes nothing; of a composition, what has ended already stays as it is.

    Args:
        what: A task's id or message, or a chain or group. Steps of a chain that do not exist yet will not run.
        who: Whom the audit trail names.
        reason: Why; it becomes the task's error.
        force: Kill the process in which the task runs if it has not ended after ``grace``. Needs ``pipeline worker``.
        grace: See ``force``.
        whole: With the id or message of one task: cancel the chain and the group it belongs to. Of a group, the members
            are known to the database only if it has a completion callback.
        target: A transaction of the caller's (as :func:`enlist` takes it) that this becomes a part of. By default it
            is a transaction of its own.

    Returns:
        ``CANCELLED``, or ``RUNNING`` if something runs and was asked to end.

    Raises:
        TaskNotFound: There is no such task.
        TaskNotCancellable: It has ended; ``state`` says how.
        ValueError: ``grace`` is negative.
    """
    request = _request(who, reason, force=force, grace=grace)
    if isinstance(what, dramatiq.group | dramatiq.pipeline):
        ids = message_ids(what)
        callbacks = [each["message_id"] for each in getattr(what, "completion_callbacks", ())]
        return command(
            target, partial(cancel_together, message_ids=[*ids, *callbacks], name=str(what), request=request)
        )
    task_id = what if isinstance(what, str) else what.message_id
    return command(target, partial(cancel_task, task_id=task_id, whole=whole, request=request))


def cancel_where(  # noqa: PLR0913 - each narrows it down
    *,
    who: str,
    reason: str = "",
    queue: str | None = None,
    actor: str | None = None,
    state: Literal["waiting", "running"] | None = None,
    older_than: timedelta | None = None,
    force: bool = False,
    grace: timedelta = timedelta(seconds=5),
    dry_run: bool = True,
    target: Any = None,
) -> CancelCounts:
    """Cancel all tasks that match all of what is given; by default only count them.

    Args:
        who: Whom the audit trail names.
        reason: Why; it becomes the tasks' error.
        queue: Only this queue's.
        actor: Only this actor's.
        state: Only those that wait (due or not), or only those that run.
        older_than: Only those that were enqueued at least so long ago.
        force: As for :func:`cancel`.
        grace: As for :func:`cancel`.
        dry_run: Only count. Pass False to cancel.
        target: As for :func:`cancel`.

    Returns:
        How many wait (and are gone) and how many run (and were asked to end).

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: Nothing narrows it down, the state is neither, or a time is negative.
    """
    request = _request(who, reason, force=force, grace=grace)
    which = partial(cancel_in_store, queue=queue, actor=actor, state=state, older_than=older_than)
    return command(target, partial(which, request=request, dry_run=dry_run))


def _request(who: str, reason: str, *, force: bool, grace: timedelta) -> Request:
    grace_ms = milliseconds(grace, "grace")
    return Request(who, reason, grace_ms if force else None)


def command(target: Any, statement: Callable[[Mapping[str, str], Cursor], R]) -> R:
    """Run a command in the caller's transaction, or in one of its own."""
    if target is None:
        return ask(statement)
    with raw_connection(target).cursor() as cursor:
        return statement(our_broker().sql, cursor)


def ask(statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function of the store on a connection of this process, and again if the connection turns out broken.

    So it must be safe to repeat, as everything is that only reads.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
        SchemaOutdated: The database lacks what the statement names.
    """
    try:
        return _ask_once(statement, *args, **kwargs)
    except DISCONNECTED:  # the server was restarted since the connection was last used
        try:
            return _ask_once(statement, *args, **kwargs)
        except DISCONNECTED as error:
            raise DatabaseUnavailable(Dsn.parse(our_broker().url).endpoint, str(error).strip()) from error


def _ask_once(
    statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    broker = our_broker()
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        try:
            return statement(broker.sql, cursor, *args, **kwargs)
        except psycopg2.ProgrammingError as error:
            raise translated(error) from error


def use_database(url: str) -> None:
    """Let this process's broker work on that database, whatever the settings say. Call it before the first use."""
    get_broker().url = url


def our_broker() -> PostgresBroker:
    """Return Dramatiq's global broker, which must be one of ours.

    Raises:
        TypeError: It is another.
    """
    broker = dramatiq.get_broker()
    if isinstance(broker, _Misconfigured):
        return get_broker()  # raises again what it raised before
    if not isinstance(broker, PostgresBroker):
        message = f"The global broker is a {type(broker).__name__}, not a PostgresBroker"
        raise TypeError(message)
    return broker
