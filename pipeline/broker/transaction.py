"""Transactions that belong to the engine: of a transactional actor, and of one step of a long task."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errorcodes import INVALID_SQL_STATEMENT_NAME
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812

from pipeline.broker.bulk import Bulk
from pipeline.db.connection import is_direct
from pipeline.errors import Cancelled, LeaseLost
from pipeline.store import tasks, workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from sqlalchemy.orm import Session

    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion
    from pipeline.context import CurrentTask, NewTask
    from pipeline.db.pool import Pool


#: What the fence says by an error, so that COMMIT is not reached.
_REFUSALS = {"PQ004": Cancelled, "PQ005": LeaseLost}


class CommitUnknown(Exception):
    """The connection was lost during COMMIT: nobody told whether it happened."""


class OwnedTransaction:
    """One transaction on a connection of its own; opened at once, ended only by the engine.

    The connection's session is registered with the worker, so that a rescuer can end it should this process be stopped
    between the fence row and COMMIT.
    """

    def __init__(self, pool: Pool, sql: Mapping[str, str], worker_id: int) -> None:
        self._pool = pool
        self._sql = sql
        self.sends: list[NewTask] = []
        self._marks: list[tuple[str, int]] = []
        self._session: Session | None = None
        self._connection = pool.getconn()
        try:
            self._register(worker_id)
            self._connection.own(self)
        except BaseException:
            pool.putconn(self._connection, close=True)
            raise

    def _register(self, worker_id: int) -> None:
        """Register each session once per worker identity."""
        if self._connection.registered_for != worker_id:
            with self._connection.cursor() as cursor:
                workers.register_backend(self._sql, cursor, worker_id)
                if not self._connection.is_prepared and is_direct(self._connection):
                    tasks.prepare_seal(self._sql, cursor)
                    self._connection.is_prepared = True
            self._connection.registered_for = worker_id

    @property
    def session(self) -> Session:
        """The SQLAlchemy session of this transaction."""
        if self._session is None:
            from pipeline.integrations.sqlalchemy import session_on  # SQLAlchemy only where it is used

            self._session = session_on(self._connection, self._pool.open)
        return self._session

    def cursor(self) -> Cursor:
        """Open a psycopg2 cursor in this transaction."""
        cursor: Cursor = self._connection.cursor()
        return cursor

    def send(self, task: NewTask) -> None:
        """Keep a send until the transaction ends."""
        if self._session is not None and self._session.in_nested_transaction():
            self._session.connection()  # sets the savepoint now, which SQLAlchemy puts off until the first statement
        self.sends.append(task)

    def savepoint_set(self, name: str) -> None:
        """Remember what had been sent when the savepoint was set."""
        self._marks.append((name, len(self.sends)))

    def savepoint_rolled_back(self, name: str) -> None:
        """Forget what was sent since the savepoint."""
        index = self._mark(name)
        del self.sends[self._marks[index][1] :]
        del self._marks[index + 1 :]

    def savepoint_released(self, name: str) -> None:
        """Let an earlier savepoint of the same name be meant from now on, as PostgreSQL does."""
        del self._marks[self._mark(name) :]

    def _mark(self, name: str) -> int:
        return max(index for index, (mark, _) in enumerate(self._marks) if mark == name)

    def flush(self) -> None:
        """Write what the session still holds back, so that its errors come before the fence."""
        if self._session is not None:
            self._session.flush()

    def seal(self, worker_id: int, proxy: TaskProxy, conclusion: Conclusion) -> None:
        """Let the fence row be the last statement before COMMIT, and travel with it."""
        with self._connection.cursor(cursor_factory=PlainCursor) as cursor:
            self._connection.last_statement = tasks.sealing(
                self._sql,
                cursor,
                is_prepared=self._connection.is_prepared,
                worker=worker_id,
                task_id=proxy.id,
                run=proxy.run,
                outcome=conclusion.outcome,
                attempt=proxy.attempt,
                lane=proxy.lane_id,
                started=(conclusion.finished_at - (proxy.started_at or 0)) * 1000,
                ttl=conclusion.ttl_ms,
                extra=conclusion.extra,
            )

    def write_seal(self) -> None:
        """Write the fence row now, and COMMIT later: so that a test can stand between them."""
        statement, self._connection.last_statement = self._connection.last_statement, ""
        with self.cursor() as cursor, _in_our_words():
            cursor.execute(statement)

    def save_checkpoint(self, task: CurrentTask, position: str) -> None:
        """Write the sends of a step and its cursor, the last statements before COMMIT.

        Raises:
            LeaseLost: The run is over, or a later one has taken over.
        """
        with self.cursor() as cursor:
            if self.sends:
                Bulk(self.sends).write(self._sql, cursor)
            is_ours = tasks.save_checkpoint(self._sql, cursor, task.id, task.run, position)
        if not is_ours:
            raise LeaseLost

    def commit(self) -> None:
        """Commit, with what was to be the last statement.

        Raises:
            LeaseLost: The run was concluded by somebody else.
            Cancelled: Somebody asked the task to end.
            CommitUnknown: The connection was lost meanwhile.
            Exception: PostgreSQL refused (a deferred constraint, a serialization failure): nothing was written.
        """
        connection = self._connection
        connection.disown()
        try:
            with _in_our_words():
                if self._session is not None:
                    self._session.commit()
                # A session that has executed nothing has not begun, and so commits nothing, not even the fence row.
                if connection.last_statement or connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                    connection.commit()
        except Exception as error:
            cause = getattr(error, "orig", error)
            if getattr(cause, "pgcode", None) == INVALID_SQL_STATEMENT_NAME:
                connection.is_prepared = False  # somebody's DEALLOCATE ALL
            if isinstance(cause, psycopg2.InterfaceError) or connection.closed:
                raise CommitUnknown from error
            raise

    def close(self) -> None:
        """Roll back what was not committed and give the connection back. Never raises."""
        self._connection.disown()
        with suppress(Exception):
            if self._session is not None:
                from pipeline.integrations.sqlalchemy import close_session

                close_session(self._session)
        self._connection.is_lent = False
        with suppress(psycopg2.Error):
            if not self._connection.closed:
                self._connection.rollback()
        self._pool.putconn(self._connection)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        refusal = _REFUSALS.get(str(getattr(getattr(error, "orig", error), "pgcode", "")))
        if refusal is not None:
            raise refusal from None
        raise


class Step:
    """One committed part of a long task: set ``cursor`` to where the next one goes on."""

    def __init__(self, transaction: OwnedTransaction, cursor: Any) -> None:
        self._transaction = transaction
        #: JSON-able; what ``checkpoint()`` returns to a later run.
        self.cursor = cursor

    @property
    def session(self) -> Session:
        """The SQLAlchemy session of this step."""
        return self._transaction.session

    def db_cursor(self) -> Cursor:
        """Open a psycopg2 cursor in this step's transaction."""
        return self._transaction.cursor()
