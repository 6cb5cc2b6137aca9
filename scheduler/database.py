"""The database of a daemon: asked with a deadline, and away at times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import psycopg2

from pipeline.broker.sender import translated
from pipeline.db.pool import DISCONNECTED
from pipeline.errors import DatabaseUnavailable
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline import PostgresBroker

P = ParamSpec("P")
R = TypeVar("R")

#: A statement without an answer for so long is given up: the server is there no more, or merely silent.
_STATEMENT_SECONDS = 5.0

log = get_logger(__name__)


class Database:
    """Runs statements of the store, each a transaction of its own, on connections of the process's pool."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._broker = broker
        self._mutex = threading.Lock()
        self._in_use: set[Connection] = set()

    def ask(
        self, statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a statement once. If its answer was lost it may have been executed, which is for the caller to find out.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
            psycopg2.Error: It said no, or the connection was lost; see :func:`is_away`.
        """
        with (
            self._broker.pool.connection(within=_STATEMENT_SECONDS) as connection,
            self._noted(connection),
            connection.cursor() as cursor,
        ):
            try:
                return statement(self._broker.sql, cursor, *args, **kwargs)
            except psycopg2.ProgrammingError as error:
                raise translated(error) from error

    @contextmanager
    def _noted(self, connection: Connection) -> Iterator[None]:
        with self._mutex:
            self._in_use.add(connection)
        try:
            yield
        finally:
            with self._mutex:
                self._in_use.discard(connection)

    @contextmanager
    def hurried(self, seconds: float) -> Iterator[None]:
        """Give up statements that run now after so many seconds, for the length of a block."""
        with ExitStack() as deadlines:
            with self._mutex:
                connections = list(self._in_use)
            for each in connections:
                deadlines.enter_context(self._broker.pool.within(each, seconds))
            yield


class Outage:
    """Whether the database is away: told once when it begins, and once when it is over."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """Tell whether the database was away when it was asked last."""
        return self._since is not None

    def begin(self, error: Exception) -> None:
        """Note that it does not answer."""
        with self._mutex:
            if self._since is None:
                self._since = time.monotonic()
                log.warning("scheduler.database_away", error=str(error).strip())

    def end(self) -> bool:
        """Note that it answers; return whether it did not before."""
        with self._mutex:
            if self._since is None:
                return False
            log.info("scheduler.database_back", seconds=round(time.monotonic() - self._since, 1))
            self._since = None
            return True


def is_away(error: Exception) -> bool:
    """Tell whether an error means that there is no connection, and not that a statement was refused."""
    if isinstance(error, DISCONNECTED):
        code = getattr(error, "pgcode", None)
        return code is None or code.startswith(("08", "57P"))
    return isinstance(error, DatabaseUnavailable)
