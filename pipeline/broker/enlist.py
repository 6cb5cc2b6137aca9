"""Sends that join the caller's own transaction. Nothing here begins, commits, retries or notifies for the caller."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812

if TYPE_CHECKING:
    from pipeline.context import NewTask, Standing, TaskTransaction, Write


class Joined(Protocol):
    """A transaction of the caller that sends belong to."""

    def send(self, tasks: list[NewTask]) -> Standing: ...


_JOINED: ContextVar[Joined | None] = ContextVar("pipeline_joined", default=None)


class JoinedPsycopg:
    """Sends on a psycopg2 connection: each is written at once, so that savepoints hold for them too.

    psycopg2 does not tell when a transaction ends or returns to a savepoint; waiting with the write would outlive both.
    """

    def __init__(self, connection: Connection, write: Write) -> None:
        self._connection = connection
        self._write = write

    def send(self, tasks: list[NewTask]) -> Standing:
        """Write the tasks in the connection's transaction."""
        with self._connection.cursor(cursor_factory=PlainCursor) as cursor:  # whatever rows the caller likes
            return self._write(cursor, tasks)


class JoinedAtExit:
    """Sends on a psycopg2 connection that are written together when the block ends."""

    def __init__(self, connection: Connection, write: Write) -> None:
        self._connection = connection
        self._now = JoinedPsycopg(connection, write)
        self._waiting: list[NewTask] = []

    def send(self, tasks: list[NewTask]) -> Standing:
        """Keep the tasks until the block ends."""
        self._waiting += tasks
        return {}

    def waiting_on(self, connection: Connection) -> list[NewTask]:
        """Return what waits for the end of the block, if it is about that connection."""
        return list(self._waiting) if connection is self._connection else []

    def write(self) -> None:
        """Write all that was sent, as one statement."""
        if self._waiting:
            self._now.send(self._waiting)


class JoinedTask:
    """Sends that belong to the transaction of the running task."""

    def __init__(self, transaction: TaskTransaction) -> None:
        self._transaction = transaction

    def send(self, tasks: list[NewTask]) -> Standing:
        """Let the tasks be enqueued when the transaction commits."""
        for each in tasks:
            self._transaction.send(each)
        return {}


class Batch:
    """Sends that are collected to be placed together."""

    def __init__(self) -> None:
        self.sends: list[NewTask] = []

    def send(self, tasks: list[NewTask]) -> Standing:
        """Collect the tasks."""
        self.sends += tasks
        return {}


def joined() -> Joined | None:
    """Return the transaction that the innermost ``enlist`` block named."""
    return _JOINED.get()


@contextmanager
def joining(target: Joined | None) -> Iterator[None]:
    """Let sends inside the block belong to a transaction; None: to none that an outer block named."""
    token = _JOINED.set(target)
    try:
        yield
        if isinstance(target, JoinedAtExit):
            target.write()
    finally:
        _JOINED.reset(token)


def join(target: Any, write: Write, committed: Callable[[], None], *, at_exit: bool = False) -> Joined:
    """Recognise what the caller has: a psycopg2 connection, a SQLAlchemy Session or Connection.

    Raises:
        TypeError: It is none of them.
    """
    if isinstance(target, Connection):
        return (JoinedAtExit if at_exit else JoinedPsycopg)(target, write)
    if "sqlalchemy" in sys.modules:
        return _join_sqlalchemy(target, write, committed)
    raise _unknown(target)


def raw_connection(target: Any) -> Connection:
    """Return the psycopg2 connection under anything that :func:`join` takes.

    Raises:
        TypeError: It is none of that.
    """
    if isinstance(target, Connection):
        return target
    if "sqlalchemy" in sys.modules:
        from pipeline.integrations.sqlalchemy import raw

        if (found := raw(target)) is not None:
            return found
    raise _unknown(target)


def waiting_sends(target: Any) -> list[NewTask]:
    """Return what was sent in a transaction, as :func:`join` takes it, and is not written yet."""
    if isinstance(target, Connection):
        innermost = joined()
        return innermost.waiting_on(target) if isinstance(innermost, JoinedAtExit) else []
    if "sqlalchemy" in sys.modules:
        from pipeline.integrations.sqlalchemy import waiting_sends as waiting_in_sqlalchemy

        return waiting_in_sqlalchemy(target)
    raise _unknown(target)


def _join_sqlalchemy(target: Any, write: Write, committed: Callable[[], None]) -> Joined:
    from sqlalchemy.engine import Connection as CoreConnection
    from sqlalchemy.orm import Session, scoped_session

    from pipeline.integrations.sqlalchemy import JoinedConnection, JoinedSession

    if isinstance(target, Session | scoped_session):
        return JoinedSession(target, write, committed)
    if isinstance(target, CoreConnection):
        return JoinedConnection.of(target, write, committed)
    raise _unknown(target)


def _unknown(target: Any) -> TypeError:
    name = type(target).__qualname__
    return TypeError(
        f"enlist() takes a psycopg2 connection, a SQLAlchemy Session or a SQLAlchemy Connection, not {name}"
    )
