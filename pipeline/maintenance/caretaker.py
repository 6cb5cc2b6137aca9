"""The caretaker: a worker's second thread and second connection.

It listens for wake-ups, writes progress, and runs the duties when they are due. Everything it does is either a hint (a
wake-up), may be late by a second (progress), or may be done by any other worker just as well (the duties); so its
errors are logged and it goes on.
"""

from __future__ import annotations

import json
import random
import select
import threading
import time
from contextlib import suppress
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
from pipeline.maintenance.purger import Purger
from pipeline.maintenance.rescuer import Rescuer
from pipeline.store import tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.db.pool import Pool
    from pipeline.settings import Settings

_PROGRESS_SECONDS = 1.0

log = get_logger(__name__)


class Broker(Protocol):
    """What the caretaker needs of the broker."""

    settings: Settings
    schema: str
    inbox: tuple[str, str]
    pool: Pool

    @property
    def url(self) -> str: ...

    @property
    def sql(self) -> Mapping[str, str]: ...


class Hub(Protocol):
    """What the caretaker needs of the hub."""

    @property
    def worker_id(self) -> int: ...

    def wake(self) -> None: ...


class Duty(Protocol):
    """Something that is to be done again and again, by whichever worker comes to it."""

    @property
    def interval_seconds(self) -> float: ...

    def run(self, cursor: Any) -> None: ...

    def forget(self) -> None: ...


class Caretaker(threading.Thread):
    """Listens, writes progress, runs the duties."""

    def __init__(self, broker: Broker, hub: Hub) -> None:
        super().__init__(name="pipeline-caretaker", daemon=True)
        self._broker = broker
        self._hub = hub
        self._is_stopping = threading.Event()
        self._reports: dict[str, tuple[int, str]] = {}
        self._reports_lock = threading.Lock()
        self._progress_due = 0.0
        self._duties: list[Duty] = [
            Rescuer(broker.settings, broker.sql, lambda: hub.worker_id),
            CancelSettler(broker.sql),
            InboxAdopter(broker.inbox, broker.sql),
            GateSweeper(broker.sql),
            Partitions(broker.settings, broker.sql),
            Purger(broker.settings, broker.inbox, broker.sql),
        ]
        self._due: dict[Duty, float] = {}
        self._connection: Connection | None = None

    def report(self, task_id: str, percent: int, note: str) -> None:
        """Keep the latest report of a task until the next write."""
        with self._reports_lock:
            self._reports[task_id] = (percent, note)

    def stop(self) -> None:
        """Write what was reported and end."""
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
        with suppress(psycopg2.Error, PipelineError):
            self._write_progress()
        self._disconnect()

    def _round(self) -> None:
        connection = self._connected()
        now = time.monotonic()
        if now >= self._progress_due:
            self._progress_due = now + _PROGRESS_SECONDS
            self._write_progress()
        for duty in self._duties:
            if now >= self._due.get(duty, 0):
                try:
                    with connection.cursor() as cursor:
                        duty.run(cursor)
                finally:  # by what it has just found, and also if it failed
                    self._due[duty] = now + duty.interval_seconds * random.uniform(0.9, 1.1)  # noqa: S311
        self._listen(connection, min([self._progress_due, *self._due.values()]) - time.monotonic())

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
            if settings.listen:
                with connection.cursor() as cursor:
                    cursor.execute(identifiers.SQL("LISTEN {}").format(identifiers.Identifier(self._broker.schema)))
            self._hub.wake()  # what was notified before we listened
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _write_progress(self) -> None:
        with self._reports_lock:
            reports, self._reports = self._reports, {}
        if not reports:
            return
        text = json.dumps([{"t": task_id, "p": percent, "n": note} for task_id, (percent, note) in reports.items()])
        try:
            with self._connected().cursor() as cursor:
                tasks.report_progress(self._broker.sql, cursor, text)
        except BaseException:
            with self._reports_lock:
                self._reports = reports | self._reports
            raise
