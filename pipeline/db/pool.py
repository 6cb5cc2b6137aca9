"""Connections for one process: opened at first use, in autocommit, given back after each use."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from os import getpid
from threading import Semaphore

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as AnyConnection  # noqa: N812
from psycopg2.extras import register_default_json

from pipeline.db.connection import connect
from pipeline.db.dsn import Dsn
from pipeline.db.owned import OwnableConnection as Connection
from pipeline.db.watchdog import Watchdog
from pipeline.errors import DatabaseUnavailable

#: What tells that a connection is gone or was never there.
DISCONNECTED = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Pool:
    """At most ``maxconn`` connections, handed out last in, first out.

    The constructor does no I/O, and a fork leaves the parent's connections alone. The names ``getconn``, ``putconn``
    and ``minconn`` are psycopg2's own, so that dramatiq-pg's helpers accept this pool as theirs.
    """

    def __init__(self, url: Callable[[], str], *, maxconn: int = 16, timeout_seconds: float = 5) -> None:
        self._url = url
        self.timeout_seconds = timeout_seconds
        self.maxconn = maxconn
        self.minconn = 0
        self._inherited: list[Connection] = []
        self._watchdog = Watchdog()
        self._reset()

    def _reset(self) -> None:
        self._pid = getpid()
        #: The one used last comes last, each with when that was.
        self._idle: list[tuple[Connection, float]] = []
        self._free = Semaphore(self.maxconn)

    def _check_fork(self) -> None:
        """Put the parent's connections aside: closing them here would end its sessions."""
        if self._pid != getpid():
            self._inherited += [connection for connection, _ in self._idle]
            self._reset()

    def getconn(self, key: object = None) -> Connection:
        """Hand out a connection in autocommit; wait for one if all are in use.

        Raises:
            DatabaseUnavailable: The server does not answer, or no connection came free in time.
        """
        self._check_fork()
        if not self._free.acquire(timeout=self.timeout_seconds):
            raise DatabaseUnavailable(self.endpoint, f"all {self.maxconn} connections of this process are in use")
        try:
            connection = self._pop_idle() or self.open()
        except BaseException:
            self._free.release()
            raise
        connection.lent_by = self._free
        return connection

    @property
    def endpoint(self) -> str:
        """Where the server is, for messages."""
        return Dsn.parse(self._url()).endpoint

    def _pop_idle(self) -> Connection | None:
        while True:
            try:
                connection, _ = self._idle.pop()
            except IndexError:
                return None
            if not connection.closed:
                return connection

    def open(self) -> Connection:
        """Open a connection of the pool's kind that the caller keeps and closes."""
        connection = connect(self._url(), within=int(self.timeout_seconds))
        connection.autocommit = True
        # JSON stays text: the one who reads it knows the decoder.
        register_default_json(connection, loads=_as_text)
        return connection

    def putconn(self, connection: Connection, key: object = None, close: bool = False) -> None:
        """Take a connection back; one that is broken or inside a transaction is closed."""
        try:
            if close or connection.closed or connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                _close(connection)
            else:
                if not connection.autocommit:
                    connection.autocommit = True
                self._idle.append((connection, time.monotonic()))
        finally:
            if connection.lent_by is self._free:  # and not handed out before a fork
                connection.lent_by = None
                self._free.release()

    @contextmanager
    def connection(self, within: float | None = None) -> Iterator[Connection]:
        """Lend a connection in autocommit for the length of a block.

        Args:
            within: Lose the connection if the block takes longer than these seconds: the server does not answer.
        """
        connection = self.getconn()
        try:
            with nullcontext() if within is None else self.within(connection, within):
                yield connection
        except DISCONNECTED:
            self.drop_idle()  # what broke one connection has most likely broken the others
            raise
        finally:
            self.putconn(connection)

    @contextmanager
    def within(self, connection: AnyConnection, seconds: float) -> Iterator[None]:
        """Lose a connection if a block takes longer than that: the server does not answer."""
        token = self._watchdog.watch(connection, seconds)
        try:
            yield
        finally:
            self._watchdog.leave(token)

    def drop_idle(self, unused_seconds: float = 0) -> None:
        """Close the connections nobody uses now, nor has used for so long."""
        with suppress(IndexError):
            while True:
                connection, since = self._idle.pop(0)
                if time.monotonic() - since < unused_seconds:
                    self._idle.insert(0, (connection, since))
                    return
                _close(connection)

    def closeall(self) -> None:
        """Close what is idle; connections in use are closed when they come back."""
        self._check_fork()
        self.drop_idle()
        self._watchdog.close()


def _as_text(text: str) -> str:
    return text


def _close(connection: Connection) -> None:
    with suppress(psycopg2.Error):
        connection.close()


class Deadline:
    """How much of a time span is left."""

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the start."""
        return (time.monotonic() - self._started) * 1000

    @property
    def left_seconds(self) -> float:
        """Seconds until the end, 0 at least."""
        return max(0.0, self._seconds - self.elapsed_ms / 1000)

    @property
    def is_over(self) -> bool:
        """Tell whether the time has run out."""
        return self.elapsed_ms >= self._seconds * 1000
