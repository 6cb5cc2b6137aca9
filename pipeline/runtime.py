"""The composition root: the one broker of a process, made of the settings, without I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import dramatiq
import psycopg2
import psycopg2.errors

from pipeline.broker.actor import Actor
from pipeline.broker.broker import PostgresBroker
from pipeline.broker.composition import install
from pipeline.broker.enlist import raw_connection
from pipeline.broker.sender import translated
from pipeline.db.dsn import Dsn
from pipeline.db.pool import DISCONNECTED
from pipeline.errors import ConfigurationError, DatabaseUnavailable, QueryTimedOut
from pipeline.store import metrics

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

P = ParamSpec("P")
R = TypeVar("R")

#: A connection that the server has closed is noticed at once.
_AT_ONCE_SECONDS = 0.5


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
    ``retry_for`` (see :class:`pipeline.middleware.retries.Retries`), and ``masked`` (names of arguments, and of fields
    in arguments and results, that the HTTP API shows to nobody; see :mod:`pipeline.broker.masks`).
    """
    options.setdefault("broker", dramatiq.get_broker())
    options.setdefault("actor_class", Actor)
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
            raise _unavailable(error) from error


def _ask_once(
    statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    broker = our_broker()
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        try:
            return statement(broker.sql, cursor, *args, **kwargs)
        except psycopg2.ProgrammingError as error:
            raise translated(error) from error


def transact(statement: Callable[[Mapping[str, str], Cursor], R]) -> R:
    """Run a function of the store as one transaction on a connection of this process: all of it, or nothing.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
        SchemaOutdated: The database lacks what the statement names.
    """
    broker = our_broker()
    try:
        with broker.pool.connection() as connection:
            connection.autocommit = False
            with connection, connection.cursor() as cursor:
                return statement(broker.sql, cursor)
    except DISCONNECTED as error:
        raise DatabaseUnavailable(Dsn.parse(broker.url).endpoint, str(error).strip()) from error
    except psycopg2.ProgrammingError as error:
        raise translated(error) from error


def ask_within(
    seconds: float,
    statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Run a function of the store in one transaction, whose statements may take so long each.

    It is run again if the connection turns out broken at once, so it must be safe to repeat. A server that does not
    answer at all is noticed soon after that time, and when connecting after two seconds.

    Raises:
        QueryTimedOut: A statement took longer.
        DatabaseUnavailable: PostgreSQL does not answer.
        SchemaOutdated: The database lacks what the statement names.
    """
    began = time.monotonic()
    try:
        return _ask_within_once(seconds, statement, *args, **kwargs)
    except DISCONNECTED as error:
        # The server was restarted since the connection was last used, which shows at once, or it is away.
        if time.monotonic() - began > _AT_ONCE_SECONDS:
            raise _unavailable(error) from error
    try:
        return _ask_within_once(seconds, statement, *args, **kwargs)
    except DISCONNECTED as error:
        raise _unavailable(error) from error


def _ask_within_once(
    seconds: float,
    statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    broker = our_broker()
    with broker.readings.connection(within=seconds + _AT_ONCE_SECONDS) as connection:
        try:
            with connection, connection.cursor() as cursor:
                metrics.limit_time(broker.sql, cursor, seconds)
                return statement(broker.sql, cursor, *args, **kwargs)
        except psycopg2.errors.QueryCanceled as error:
            raise QueryTimedOut(seconds) from error
        except psycopg2.ProgrammingError as error:
            raise translated(error) from error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(Dsn.parse(our_broker().url).endpoint, str(error).strip())


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
