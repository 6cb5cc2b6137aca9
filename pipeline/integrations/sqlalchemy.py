"""SQLAlchemy: sessions on the engine's own transactions, and sends that join a caller's session or connection.

Sends that join are kept in Python and written as one statement when the transaction commits, so that N of them cost one
round trip. Rolling back, also to a savepoint, forgets those that belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakKeyDictionary, ref

import psycopg2
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection as CoreConnection
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, SessionTransaction, scoped_session
from sqlalchemy.pool import NullPool

from pipeline.errors import TransactionOwned

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.context import NewTask, Standing, Write
    from pipeline.db.owned import OwnableConnection

_LENT: ContextVar[Any] = ContextVar("pipeline_lent_connection")
_SENDS = "pipeline.sends"


# --- sessions on a connection of ours -------------------------------------------------------------------------------


def session_on(connection: Connection, open_connection: Callable[[], Connection]) -> Session:
    """Open a session on a psycopg2 connection whose transaction belongs to the engine.

    ``open_connection`` makes one for the questions that SQLAlchemy asks once per process.
    """
    engine = _lending_engine(open_connection)
    _LENT.set(connection)
    return _OwnedSession(connection, engine.connect())


class _OwnedSession(Session):
    """A session that refuses commit and rollback while its connection's transaction is owned.

    The connection refuses them, too, but is not asked by a session that has executed nothing yet.
    """

    def __init__(self, owned: Connection, bind: CoreConnection) -> None:
        super().__init__(bind=bind, expire_on_commit=False)
        self._owned = cast("OwnableConnection", owned)

    def commit(self) -> None:
        self._owned.check_owner("commit")
        super().commit()

    def rollback(self) -> None:
        self._owned.check_owner("rollback")
        super().rollback()

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        try:
            super().flush(objects)
        except TransactionOwned as refused:
            # SQLAlchemy wanted to roll back because of an error of the actor's own, which is the one to tell.
            raise refused.__context__ or refused from None


def close_session(session: Session) -> None:
    """Close the session and what it holds of SQLAlchemy's, now.

    Left to the garbage collector, SQLAlchemy would close the psycopg2 connection when that serves another task.
    """
    lent = session.get_bind()
    session.close()
    if isinstance(lent, CoreConnection):
        lent.close()


@cache
def _lending_engine(open_connection: Callable[[], Connection]) -> Engine:
    """Make an engine that takes whatever connection is lent to it, and let it ask its first questions."""
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=_LENT.get,
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,
    )
    _LENT.set(open_connection())
    engine.connect().close()
    return engine


# --- sends that join a session --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sends:
    """What was sent in a session's transaction and is not written yet, each with the savepoints it lies in."""

    write: Write
    committed: Callable[[], None]
    waiting: list[tuple[NewTask, frozenset[SessionTransaction]]] = field(default_factory=list)
    has_written: bool = False

    def write_all(self, connection: CoreConnection) -> None:
        """Write what waits, as one statement."""
        tasks = [task for task, _ in self.waiting]
        self.waiting.clear()
        if tasks:
            with _cursor(connection) as cursor:
                self.write(cursor, tasks)
            self.has_written = True

    def write_now(self, connection: CoreConnection, tasks: list[NewTask]) -> Standing:
        """Write tasks with keys: only the database knows whether they will be made."""
        with _cursor(connection) as cursor:
            others = self.write(cursor, tasks)
        self.has_written = True
        return others


class JoinedSession:
    """Sends that become tasks when the session commits. Those with keys are written in its transaction at once."""

    def __init__(
        self,
        session: Session | scoped_session[Session],
        write: Write,
        committed: Callable[[], None],
    ) -> None:
        self.session = session() if isinstance(session, scoped_session) else session
        _listen_to_sessions()
        self._sends = self.session.info.setdefault(_SENDS, _Sends(write, committed))

    def send(self, tasks: list[NewTask]) -> Standing:
        """Keep the tasks until the session commits."""
        if any(task.may_give_way for task in tasks):
            sends: _Sends = self._sends
            return sends.write_now(self.session.connection(), tasks)
        if not self.session.in_transaction():
            self.session.begin()  # no I/O; a rollback of a session that never began is not told to anybody
        savepoints = _savepoints(self.session)
        self._sends.waiting += [(task, savepoints) for task in tasks]
        return {}


def has_waiting_sends(session: Session) -> bool:
    """Tell whether something was sent in this session that no commit has written yet."""
    sends: _Sends | None = session.info.get(_SENDS)
    return bool(sends and (sends.waiting or sends.has_written))


def waiting_sends(target: Session | scoped_session[Session] | CoreConnection) -> list[NewTask]:
    """Return what was sent in a session or on a connection and no commit has written yet."""
    if isinstance(target, CoreConnection):
        return JoinedConnection.waiting_on(target)
    sends: _Sends | None = target.info.get(_SENDS)
    return [task for task, _ in sends.waiting] if sends else []


def forget_sends(session: Session) -> int:
    """Drop what was sent and not committed; return how many."""
    sends: _Sends | None = session.info.pop(_SENDS, None)
    return len(sends.waiting) if sends else 0


def _savepoints(session: Session) -> frozenset[SessionTransaction]:
    found = set()
    transaction = session.get_nested_transaction()
    while transaction is not None:
        found.add(transaction)
        transaction = transaction.parent
    return frozenset(found)


@cache
def _listen_to_sessions() -> None:
    """Register once per process; sessions without sends pay one dictionary lookup per commit."""
    event.listen(Session, "before_commit", _write_sends)
    event.listen(Session, "after_commit", _tell_committed)
    event.listen(Session, "after_soft_rollback", _forget_rolled_back)


def _write_sends(session: Session) -> None:
    """Write the sends when all commits, and not already when a savepoint is released.

    What was sent before an outer savepoint would vanish with that one.
    """
    sends: _Sends | None = session.info.get(_SENDS)
    if sends is None or not sends.waiting:
        return
    connection = session.connection()
    if session.in_nested_transaction():
        # Or it is the whole that commits, and a savepoint was left open: then only the connection will tell.
        event.listen(connection, "commit", _as_part_of_the_commit(sends.write_all), once=True)
    else:
        sends.write_all(connection)


def _tell_committed(session: Session) -> None:
    sends: _Sends | None = session.info.get(_SENDS)
    if sends is None or session.in_nested_transaction():
        return
    if sends.has_written:
        sends.has_written = False
        sends.committed()


def _forget_rolled_back(session: Session, transaction: SessionTransaction) -> None:
    sends: _Sends | None = session.info.get(_SENDS)
    if sends is None:
        return
    if transaction.parent is None:
        sends.waiting.clear()
        sends.has_written = False
    else:
        sends.waiting = [(task, within) for task, within in sends.waiting if transaction not in within]


# --- sends that join a Core connection ------------------------------------------------------------------------------


class JoinedConnection:
    """Sends that become tasks when the connection commits. Those with keys are written in its transaction at once."""

    _all: ClassVar[WeakKeyDictionary[CoreConnection, JoinedConnection]] = WeakKeyDictionary()

    def __init__(
        self,
        connection: CoreConnection,
        write: Write,
        committed: Callable[[], None],
    ) -> None:
        self._connection = ref(connection)
        self._write = write
        self._committed = committed
        #: Each with the names of the savepoints it lies in.
        self._waiting: list[tuple[NewTask, frozenset[str]]] = []
        event.listen(connection, "commit", _as_part_of_the_commit(self._on_commit))
        event.listen(connection, "rollback", self._on_rollback)
        event.listen(connection, "rollback_savepoint", self._on_rollback_savepoint)
        event.listen(connection, "prepare_twophase", self._on_prepare)

    @classmethod
    def of(
        cls,
        connection: CoreConnection,
        write: Write,
        committed: Callable[[], None],
    ) -> JoinedConnection:
        """Return the connection's own; its listeners are registered once."""
        if connection not in cls._all:
            cls._all[connection] = cls(connection, write, committed)
        return cls._all[connection]

    @classmethod
    def waiting_on(cls, connection: CoreConnection) -> list[NewTask]:
        """Return what waits for the connection's commit."""
        found = cls._all.get(connection)
        return [task for task, _ in found._waiting] if found is not None else []  # noqa: SLF001 - its own

    def send(self, tasks: list[NewTask]) -> Standing:
        """Keep the tasks until the connection commits."""
        connection = self._connection()
        if connection is not None and not connection.in_transaction():
            connection.begin()  # as any statement would; without one, commit() does nothing and tells nobody
        if connection is not None and any(task.may_give_way for task in tasks):
            with _cursor(connection) as cursor:
                return self._write(cursor, tasks)
        savepoints = _savepoint_names(connection)
        self._waiting += [(task, savepoints) for task in tasks]
        return {}

    def _on_commit(self, connection: CoreConnection) -> None:
        if self._waiting:
            self._write_waiting(connection)
            self._committed()  # a hint: workers look again by themselves if it comes a moment too early

    def _on_prepare(self, connection: CoreConnection, _xid: str) -> None:
        self._write_waiting(connection)

    def _write_waiting(self, connection: CoreConnection) -> None:
        tasks = [task for task, _ in self._waiting]
        self._waiting.clear()
        if tasks:
            with _cursor(connection) as cursor:
                self._write(cursor, tasks)

    def _on_rollback(self, _connection: CoreConnection) -> None:
        self._waiting.clear()

    def _on_rollback_savepoint(self, _connection: CoreConnection, name: str, _context: Any) -> None:
        self._waiting = [(task, within) for task, within in self._waiting if name not in within]


def _as_part_of_the_commit(write: Callable[[CoreConnection], None]) -> Callable[[CoreConnection], None]:
    """Let a failure end the transaction, as PostgreSQL does when COMMIT fails.

    SQLAlchemy has let go of it by then, so that nobody could roll back any more.
    """

    def write_or_roll_back(connection: CoreConnection) -> None:
        try:
            write(connection)
        except BaseException:
            with suppress(psycopg2.Error):
                _raw(connection).rollback()
            raise

    return write_or_roll_back


def _savepoint_names(connection: CoreConnection | None) -> frozenset[str]:
    """Name the savepoints that are open, by the names which the event of a rollback gives.

    The event of a new savepoint has no name yet, so SQLAlchemy's own records are the only source.
    """
    names = set()
    nested: Any = connection.get_nested_transaction() if connection is not None else None
    while nested is not None:
        names.add(nested._savepoint)  # noqa: SLF001
        nested = nested._previous_nested  # noqa: SLF001
    return frozenset(names)


def raw(target: Any) -> Connection | None:
    """Return the psycopg2 connection under a session or a connection, in its transaction; None under anything else."""
    if isinstance(target, Session | scoped_session):
        target = target.connection()
    if not isinstance(target, CoreConnection):
        return None
    if not target.in_transaction():
        target.begin()  # or its commit and rollback would pass over what is done below it
    return _raw(target)


def _cursor(connection: CoreConnection) -> Cursor:
    return _raw(connection).cursor(cursor_factory=PlainCursor)


def _raw(connection: CoreConnection) -> Connection:
    return cast("Connection", connection.connection.dbapi_connection)
