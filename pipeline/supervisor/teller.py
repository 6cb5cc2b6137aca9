"""Writes into the database what the boards show, so that everybody sees what runs where, also where the GIL is held.

A thread of its own with a connection of its own, opened when there is something to say: an outage costs the master
nothing, and what was missed is told when it is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg2

from pipeline.broker import running
from pipeline.db.connection import connect
from pipeline.db.statements import load
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.store import workers

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.broker.board import Board
    from pipeline.broker.running import PlacedRun
    from pipeline.settings import Settings

_LOOK_SECONDS = 0.5
#: How soon to try again after the database was away.
_RETRY_SECONDS = 5.0
#: How long its last statement may take when the master ends.
_END_SECONDS = 2.0

log = get_logger(__name__)


class Teller(threading.Thread):
    """Tells what runs in the processes of a master, when that has changed."""

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(name="pipeline-teller", daemon=True)
        self._url = url
        self._sql = load(settings.schema_name)
        self._is_over = threading.Event()
        self._shown: Mapping[int, Sequence[PlacedRun]] = {}
        self._told: dict[int, frozenset[tuple[int, int]]] = {}
        self._connection: Connection | None = None
        self._is_cut_off = False

    def show(self, boards: Iterable[Board]) -> None:
        """Note what runs in each worker now. Never waits."""
        self._shown = {board.worker_id: board.entries() for board in boards if board.worker_id}

    def stop(self) -> None:
        """End."""
        self._is_over.set()
        if self.is_alive():
            self.join(_END_SECONDS)

    def run(self) -> None:
        """Tell what has changed until stopped."""
        while not self._is_over.wait(_RETRY_SECONDS if self._is_cut_off else _LOOK_SECONDS):
            try:
                self._tell()
                self._is_cut_off = False
            except (psycopg2.Error, PipelineError) as error:
                self._disconnect()
                if not self._is_cut_off:
                    log.warning("supervisor.not_told", error=str(error).strip(), retry_in=_RETRY_SECONDS)
                self._is_cut_off = True
        self._disconnect()

    def _tell(self) -> None:
        now = time.monotonic()
        shown = {worker_id: running.lasting(entries, now) for worker_id, entries in self._shown.items()}
        runs = {worker_id: running.identities(entries) for worker_id, entries in shown.items()}
        news = {
            worker_id: running.as_told(shown[worker_id], now)
            for worker_id in runs
            if runs[worker_id] != self._told.get(worker_id, frozenset())
        }
        if news:
            with self._connected().cursor() as cursor:
                workers.tell_running(self._sql, cursor, news)
        self._told = runs

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._url)
            self._connection.autocommit = True
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None
