"""The caretaker: a worker's second thread and second connection.

It listens for wake-ups, writes progress and what tasks log, and runs the duties when they are due. Everything it does
is either a hint (a wake-up), may be late by a second (progress, logs), or may be done by any other worker just as well
(the duties); so its errors are logged and it goes on.
"""

from __future__ import annotations

import random
import select
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2
from psycopg2 import sql as identifiers

from pipeline.db.connection import connect
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.maintenance.cancel_settler import CancelSettler
from pipeline.maintenance.gate_sweeper import GateSweeper
from pipeline.maintenance.inbox_adopter import InboxAdopter
from pipeline.maintenance.partitions import Partitions
from pipeline.maintenance.progress import ProgressWriter
from pipeline.maintenance.purger import Purger
from pipeline.maintenance.rescuer import Rescuer
from pipeline.maintenance.stat_folder import StatFolder
from pipeline.maintenance.tally_writer import Tally, TallyWriter
from pipeline.store import task_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.db.pool import Pool
    from pipeline.settings import Settings

#: How often what tasks have logged is written.
_LOGS_SECONDS = 1.0
#: How long a connection for sends or transactions may lie idle.
_UNUSED_SECONDS = 10.0

log = get_logger(__name__)


class Broker(Protocol):
    """What the caretaker needs of the broker."""

    settings: Settings
    schema: str
    inbox: tuple[str, str]
    pool: Pool
    transactions: Pool
    tally: Tally

    @property
    def url(self) -> str: ...

    @property
    def sql(self) -> Mapping[str, str]: ...


class Fleet(Protocol):
    """What the caretaker needs to know of all workers."""

    @property
    def listens(self) -> bool: ...

    def patience(self, doers: int) -> float: ...


class Hub(Protocol):
    """What the caretaker needs of the hub."""

    @property
    def worker_id(self) -> int: ...

    @property
    def fleet(self) -> Fleet: ...

    def wake(self) -> None: ...


class Logs(Protocol):
    """What tasks log, kept until it is written."""

    def listen(self) -> None: ...

    def write_to(self, write: Callable[[str], None]) -> None: ...


class Duty(Protocol):
    """Something that is to be done again and again, by whichever worker comes to it."""

    @property
    def interval_seconds(self) -> float: ...

    #: So many workers of the fleet do it so often; the others leave it to them.
    @property
    def doers(self) -> int: ...

    def run(self, cursor: Any) -> None: ...

    def forget(self) -> None: ...


class Caretaker(threading.Thread):
    """Listens, writes progress and logs, runs the duties."""

    def __init__(self, broker: Broker, hub: Hub, logs: Logs | None = None) -> None:
        super().__init__(name="pipeline-caretaker", daemon=True)
        self._broker = broker
        self._hub = hub
        self._logs = logs
        self._logs_due = 0.0 if logs is not None else float("inf")
        self._is_stopping = threading.Event()
        self.progress = ProgressWriter(broker.sql)
        self._tally_writer = TallyWriter(broker.tally, broker.sql)
        self._duties: list[Duty] = [
            Rescuer(broker.settings, broker.sql, lambda: hub.worker_id),
            CancelSettler(broker.sql),
            InboxAdopter(broker.inbox, broker.sql),
            GateSweeper(broker.sql),
            Partitions(broker.settings, broker.sql),
            Purger(broker.settings, broker.inbox, broker.sql),
            StatFolder(broker.sql),
            self._tally_writer,
        ]
        #: When each duty was last done, and how long it rests then.
        self._rests: dict[Duty, tuple[float, float]] = {}
        self._connection: Connection | None = None
        self._is_listening = False

    def stop(self) -> None:
        """Write what was reported, logged and counted, and end."""
        self._is_stopping.set()
        self.join(5)

    def run(self) -> None:
        """Go round until stopped."""
        while not self._is_stopping.is_set():
            try:
                self._round()
            except (psycopg2.Error, PipelineError, OSError) as error:
                log.warning("caretaker.interrupted", error=str(error).strip())
                self._disconnect()
                self._is_stopping.wait(random.uniform(0.5, 2.0))  # noqa: S311
            except Exception:
                log.exception("caretaker.failed")
                self._disconnect()
                self._is_stopping.wait(5.0)
        for write in (partial(self.progress.write, self._cursor), self._write_logs, self._write_tally):
            with suppress(psycopg2.Error, PipelineError):
                write()
        self._disconnect()

    def _round(self) -> None:
        connection = self._connected()
        self._choose_to_listen(connection)
        now = time.monotonic()
        self.progress.write_if_due(self._cursor)
        for duty in self._duties:
            if now >= self._due(duty):
                try:
                    with connection.cursor() as cursor:
                        duty.run(cursor)
                finally:  # by what it has just found, and also if it failed
                    self._rests[duty] = now, duty.interval_seconds * random.uniform(0.9, 1.1)  # noqa: S311
        if now >= self._logs_due and self._logs is not None:
            self._logs_due = now + _LOGS_SECONDS
            self._logs.listen()
            self._write_logs()  # last: if it fails, the duties have been done
        for pool in (self._broker.pool, self._broker.transactions):
            pool.drop_idle(_UNUSED_SECONDS)
        self._listen(
            connection, min([self.progress.due, self._logs_due, *map(self._due, self._duties)]) - time.monotonic()
        )

    def _due(self, duty: Duty) -> float:
        """When to do it again; reckoned anew each time, since those that it was left to may be gone."""
        done_at, seconds = self._rests.get(duty, (0.0, 0.0))
        return done_at + seconds * self._hub.fleet.patience(duty.doers)

    def _choose_to_listen(self, connection: Connection) -> None:
        """Hear wake-ups if this is one of those that shall; whoever begins to looks once, for what it missed."""
        listens = self._broker.settings.listen and self._hub.fleet.listens
        if listens == self._is_listening:
            return
        command = identifiers.SQL("LISTEN {}" if listens else "UNLISTEN {}")
        with connection.cursor() as cursor:
            cursor.execute(command.format(identifiers.Identifier(self._broker.schema)))
        self._is_listening = listens
        self._hub.wake()

    def _listen(self, connection: Connection, seconds: float) -> None:
        """Wait for a wake-up or the next duty. Checks for a stop twice a second."""
        readable, _, _ = select.select([connection], [], [], min(max(seconds, 0.0), 0.5))
        if readable:
            connection.poll()
            if connection.notifies:
                connection.notifies.clear()
                self._hub.wake()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            settings = self._broker.settings
            url = settings.listen_database_url or self._broker.url
            self._connection = connection = connect(url, within=settings.connect_timeout_seconds)
            connection.autocommit = True
            for duty in self._duties:
                duty.forget()
            self._is_listening = False
        return self._connection

    def _cursor(self) -> Any:
        return self._connected().cursor()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _write_tally(self) -> None:
        with self._cursor() as cursor:
            self._tally_writer.run(cursor)

    def _write_logs(self) -> None:
        if self._logs is not None:
            self._logs.write_to(self._write_lines)

    def _write_lines(self, lines: str) -> None:
        with self._connected().cursor() as cursor:
            task_logs.write(self._broker.sql, cursor, lines)
