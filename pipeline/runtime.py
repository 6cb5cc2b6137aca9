"""The composition root: the one broker of a process, made of the settings, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import dramatiq
import psycopg2

from pipeline.broker.broker import PostgresBroker
from pipeline.broker.composition import install
from pipeline.broker.enlist import raw_connection
from pipeline.broker.sender import translated
from pipeline.commands.cancel import cancel as cancel_task
from pipeline.commands.queues import pause_queue as pause_in_store
from pipeline.commands.queues import resume_queue as resume_in_store
from pipeline.db.dsn import Dsn
from pipeline.db.pool import DISCONNECTED
from pipeline.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

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
    return _ours().send_many(messages, delay=delay)


@contextmanager
def enlist(target: Any, *, at_exit: bool = False) -> Iterator[None]:
    """Let the sends inside the block belong to the caller's transaction.

    Args:
        target: A psycopg2 connection, a SQLAlchemy Session (or scoped_session) or a SQLAlchemy Connection.
        at_exit: For a psycopg2 connection only: write everything as one statement when the block ends, instead of each
            send at once. Commit after the block, and set no savepoints inside it.
    """
    with _ours().enlist(target, at_exit=at_exit):
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


def cancel(task_id: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Cancel a task that waits; cancelling it again changes nothing.

    Args:
        task_id: Which task.
        who: Whom the audit trail names.
        reason: Why; it becomes the task's error.
        target: A transaction of the caller's (as :func:`enlist` takes it) that this becomes a part of. By default it
            is a transaction of its own.

    Raises:
        TaskNotFound: There is no such task.
        TaskNotCancellable: It runs or has ended; ``state`` says which.
    """
    command(target, partial(cancel_task, task_id=task_id, who=who, reason=reason))


def command(target: Any, statement: Callable[[Mapping[str, str], Cursor], None]) -> None:
    """Run a command in the caller's transaction, or in one of its own."""
    if target is None:
        ask(statement)
    else:
        with raw_connection(target).cursor() as cursor:
            statement(_ours().sql, cursor)


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
            raise DatabaseUnavailable(Dsn.parse(_ours().url).endpoint, str(error).strip()) from error


def _ask_once(
    statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    broker = _ours()
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        try:
            return statement(broker.sql, cursor, *args, **kwargs)
        except psycopg2.ProgrammingError as error:
            raise translated(error) from error


def use_database(url: str) -> None:
    """Let this process's broker work on that database, whatever the settings say. Call it before the first use."""
    get_broker().url = url


def _ours() -> PostgresBroker:
    broker = dramatiq.get_broker()
    if isinstance(broker, _Misconfigured):
        return get_broker()  # raises again what it raised before
    if not isinstance(broker, PostgresBroker):
        message = f"The global broker is a {type(broker).__name__}, not a PostgresBroker"
        raise TypeError(message)
    return broker
