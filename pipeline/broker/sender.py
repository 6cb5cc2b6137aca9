"""Sends on a connection of our own: one round trip, safe to repeat when a reply was lost."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import psycopg2
from psycopg2 import errorcodes

from pipeline.broker.bulk import LOT, Bulk, in_lots, mode_of
from pipeline.broker.placing import stood_for
from pipeline.db.connection import is_direct
from pipeline.db.pool import DISCONNECTED, Deadline
from pipeline.errors import DatabaseUnavailable, DuplicateTask, MessageNotEncodable, SchemaOutdated, TaskIsRunning
from pipeline.logger import get_logger
from pipeline.store import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.broker.notify import Notifier
    from pipeline.context import NewTask, Standing
    from pipeline.db.owned import OwnableConnection
    from pipeline.db.pool import Pool

#: Queue, priority, and whether tasks of the queue have gates.
LaneUse = tuple[str, int] | tuple[str, int, bool]
T = TypeVar("T")

#: A process that sends once need not prepare for more.
_SENDS_UNPREPARED = 1
#: So many wait to be written at most.
_LOTS_AHEAD = 3

_UNKNOWN_LANE = "PQ001"
_TASK_IS_RUNNING = "PQ003"
_DUPLICATE_TASK = "PQ011"
#: Errors after which the same statement may well succeed, on this connection or on a new one.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
_READ_ONLY = errorcodes.READ_ONLY_SQL_TRANSACTION

log = get_logger(__name__)


def is_transient(error: psycopg2.Error) -> bool:
    """Tell whether trying again can help: no connection, a restart, a full disk, a timeout, a standby."""
    code = error.pgcode
    if code is None:
        return isinstance(error, DISCONNECTED)
    return code[:2] in _TRANSIENT_CLASSES or code == _READ_ONLY


class Sender:
    """Enqueues outside anybody's transaction."""

    def __init__(
        self,
        pool: Pool,
        sql: Callable[[], Mapping[str, str]],
        notifier: Notifier,
        *,
        patience_seconds: float = 5,
        may_prepare: bool = True,
    ) -> None:
        self._pool = pool
        self._sql = sql
        self._notifier = notifier
        self._patience_seconds = patience_seconds
        self._may_prepare = may_prepare
        self._lanes: set[LaneUse] = set()

    def ensure_lanes(self, lanes: Iterable[LaneUse]) -> None:
        """Make queues and lanes that this process uses for the first time, in a transaction of their own."""
        for lane in set(lanes).difference(self._lanes):
            try:
                self._repeat(partial(self._ensure_lane, lane))
            except psycopg2.Error as error:
                raise translated(error) from error
            self._lanes.add(lane)

    def _ensure_lane(self, lane: LaneUse, cursor: Cursor, _again: bool) -> None:
        tasks.ensure_lane(self._sql(), cursor, *lane)

    def send(self, task: NewTask) -> Standing:
        """Enqueue one message.

        Raises:
            DatabaseUnavailable: PostgreSQL did not answer within five seconds. The message may have been enqueued if
                it was lost on the way back.
            TaskIsRunning: The same message is running now.
            DuplicateTask: Another task has its key, and that is an error.
        """
        notify = self._notifier.take()

        def statement(cursor: Cursor, since: float | None) -> str:
            enqueue = partial(
                tasks.enqueue, self._sql(), cursor, task, mode=mode_of([task], since), since_ms=since, notify=notify
            )
            connection: OwnableConnection = cursor.connection  # type: ignore[assignment]
            try:
                return enqueue(is_prepared=self._prepare(connection))
            except psycopg2.Error as error:
                if error.pgcode != errorcodes.INVALID_SQL_STATEMENT_NAME:
                    raise
                connection.has_prepared_sends = (
                    False  # somebody's DEALLOCATE ALL, or a pooler that we took for the server
                )
                return enqueue()

        return stood_for(task, self._send([task], statement, notify))

    def _prepare(self, connection: OwnableConnection) -> bool:
        """Spare each single send of a session but the first to be parsed and planned: a tenth of its time."""
        connection.sends += 1
        if connection.sends == _SENDS_UNPREPARED + 1 and self._may_prepare and is_direct(connection):
            with connection.cursor() as cursor:
                tasks.prepare_enqueue(self._sql(), cursor)
            connection.has_prepared_sends = True
        return connection.has_prepared_sends

    def send_many(self, new: Iterable[NewTask]) -> Standing:
        """Enqueue many messages, all or none. Raises as :meth:`send` does, and whatever the iterable raises."""
        rest = iter(new)
        many = list(islice(rest, 2 * LOT))
        if len(many) < 2:
            return self.send(many[0]) if many else {}
        if len(many) == 2 * LOT:
            return self._send_lots(in_lots(chain(many, rest)))
        notify = self._notifier.take()
        bulk = Bulk(many)

        def statement(cursor: Cursor, since: float | None) -> Standing:
            return bulk.write(self._sql(), cursor, again_after_ms=since, notify=notify)

        return self._send(many, statement, notify)

    def _send_lots(self, rest: Iterator[Bulk]) -> Standing:
        """Encode some while PostgreSQL writes others, all in one transaction: it takes as long as we do."""
        made: list[Bulk] = []

        def lots() -> Iterator[Bulk]:
            yield from tuple(made)
            for lot in rest:
                made.append(lot)
                yield lot

        def statement(cursor: Cursor, since: float | None) -> Standing:
            others: dict[str, str] = {}
            write = partial(self._write_lot, cursor, since)
            with ThreadPoolExecutor(1, "pipeline-send") as writer:
                with self._pool.within(cursor.connection, self._patience_seconds):
                    cursor.execute("BEGIN")
                written: deque[Future[Standing]] = deque()
                for lot in lots():
                    self.ensure_lanes(task.lane for task in lot.tasks)
                    written.append(writer.submit(write, lot))
                    while len(written) > _LOTS_AHEAD:
                        others.update(written.popleft().result())
                for each in written:
                    others.update(each.result())
                with self._pool.within(cursor.connection, self._patience_seconds):
                    cursor.execute("COMMIT")
            return others

        return self._send((), statement, is_announced=False, is_short=False)

    def _write_lot(self, cursor: Cursor, since: float | None, lot: Bulk) -> Standing:
        with self._pool.within(cursor.connection, self._patience_seconds):
            return lot.write(self._sql(), cursor, again_after_ms=since)

    def create_group(self, group_id: str, size: int, message_ids: Sequence[str]) -> None:
        """Make a group of ``size`` members whose completion will be noticed."""
        with self._pool.connection() as connection, connection.cursor() as cursor:
            tasks.create_group(self._sql(), cursor, group_id, size, message_ids)

    def _send(
        self,
        many: Sequence[NewTask],
        statement: Callable[[Cursor, float | None], T],
        is_announced: bool,
        is_short: bool = True,
    ) -> T:
        self.ensure_lanes(task.lane for task in many)
        deadline = Deadline(self._patience_seconds)

        def attempt(cursor: Cursor, again: bool) -> T:
            return statement(cursor, deadline.elapsed_ms if again else None)

        try:
            sent = self._repeat(attempt, deadline, is_short)
        except psycopg2.Error as error:
            if error.pgcode != _UNKNOWN_LANE:
                raise translated(error) from error
            self._lanes.clear()  # the schema was made anew under us
            self.ensure_lanes(task.lane for task in many)
            sent = self._repeat(attempt, deadline, is_short)
        if not is_announced:
            self._notifier.notify_soon()
        return sent

    def _repeat(
        self, attempt: Callable[[Cursor, bool], T], deadline: Deadline | None = None, is_short: bool = True
    ) -> T:
        """Run a statement until it is known to have succeeded or failed, or the time is over.

        ``attempt`` is told whether it may have run before; it has to end within that time, or to see to that itself.
        """
        deadline = deadline or Deadline(self._patience_seconds)
        again = False
        while True:
            try:
                within = deadline.left_seconds if is_short else None
                with self._pool.connection(within) as connection, connection.cursor() as cursor:
                    return attempt(cursor, again)
            except DatabaseUnavailable:
                if deadline.is_over:
                    raise
            except psycopg2.Error as error:
                again = True
                if not is_transient(error) and error.pgcode != errorcodes.UNIQUE_VIOLATION:  # an id met twice
                    raise
                if deadline.is_over:
                    raise DatabaseUnavailable(self._pool.endpoint, str(error).strip()) from error
                log.warning("send.repeated", error=str(error).strip(), code=error.pgcode)
            threading.Event().wait(random.uniform(0.01, 0.2))  # noqa: S311


@contextmanager
def in_our_words() -> Iterator[None]:
    """Let what PostgreSQL refuses in the caller's transaction be an error of ours, where we have one."""
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode in {_TASK_IS_RUNNING, _DUPLICATE_TASK}:
            raise translated(error) from error
        raise


def translated(error: psycopg2.Error) -> Exception:
    """Say in our words what PostgreSQL said."""
    text = error.diag.message_primary or str(error).strip()
    if error.pgcode == _TASK_IS_RUNNING:
        return TaskIsRunning(text)
    if error.pgcode == _DUPLICATE_TASK:
        return DuplicateTask(**json.loads(error.diag.message_detail or "{}"))
    if error.pgcode in {errorcodes.UNDEFINED_FUNCTION, errorcodes.INVALID_SCHEMA_NAME, errorcodes.UNDEFINED_TABLE}:
        return SchemaOutdated("pipeline", [text])
    if isinstance(error, psycopg2.DataError):
        return MessageNotEncodable(text)
    return error
