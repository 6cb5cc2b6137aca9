"""Which runs are to be ended with their process, since somebody cancelled them by force and their grace is over.

The question goes to the database, which may hang, while the master has limits to enforce. So a thread asks, once a
second, and only while there are runs that have been going on for a while.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg2

from pipeline.db.connection import connect
from pipeline.db.statements import load
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.store import cancels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.broker.running import PlacedRun

_INTERVAL_SECONDS = 1.0
#: Runs that have not been going on as long are not asked about: most end by then.
_SHORTEST_SECONDS = 1.0

log = get_logger(__name__)


class ForcedEnds(threading.Thread):
    """Asks about the runs that the master saw last."""

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(name="pipeline-forced-ends", daemon=True)
        self._url = url
        self._sql = load(schema)
        self._connection: Connection | None = None
        self._is_stopping = threading.Event()
        # Both are replaced as a whole, so that neither thread sees half of one. (task id, run)
        self._watched: frozenset[tuple[int, int]] = frozenset()
        self._due: frozenset[tuple[int, int]] = frozenset()

    def watch(self, entries: Iterable[PlacedRun], now: float) -> None:
        """Ask about these runs from now on, and about no others."""
        old = (each for each in entries if each.started_at <= now - _SHORTEST_SECONDS)
        self._watched = frozenset((each.id, each.run) for each in old)

    def among(self, entries: Iterable[PlacedRun]) -> list[PlacedRun]:
        """List the runs that are to be ended now."""
        return [each for each in entries if (each.id, each.run) in self._due]

    def stop(self) -> None:
        """End the thread, unless the database holds it up: then it ends with the process."""
        self._is_stopping.set()
        self.join(2)

    def run(self) -> None:
        """Ask until stopped."""
        while not self._is_stopping.wait(_INTERVAL_SECONDS):
            try:
                self._due = self._ask(self._watched)
            except (psycopg2.Error, PipelineError) as error:
                log.warning("supervisor.cancels_unknown", error=str(error).strip())
                self._disconnect()
        self._disconnect()

    def _ask(self, watched: frozenset[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        if not watched:
            return frozenset()
        if self._connection is None:
            self._connection = connect(self._url)
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            requests = cancels.requests(self._sql, cursor, [task_id for task_id, _ in watched])
        return frozenset((task_id, run) for task_id, run in watched if requests.get(task_id))

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None
