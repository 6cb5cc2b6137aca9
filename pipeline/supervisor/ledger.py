"""What the master says to the database about processes that are gone.

Each statement has a connection of its own, opened for it: the master keeps none, and one that cannot be had costs a
warning. Other workers take over what was not said, when the lease is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import psycopg2

from pipeline.broker.outcome import VERDICT_TIME_LIMIT
from pipeline.db.connection import connect
from pipeline.db.statements import load
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.store import workers

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.broker.running import PlacedRun
    from pipeline.settings import Settings

    Statement = Callable[[Mapping[str, str], Cursor], int | None]

#: How long the database may take to let go of what a killed process had locked.
_RELEASE_SECONDS = 10.0

log = get_logger(__name__)


class Ledger:
    """Concludes the runs of processes that cannot do it themselves any more."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        self._sql = load(settings.schema_name)
        self._max_losses = settings.max_losses

    def rescue(self, worker_id: int, began: Iterable[PlacedRun]) -> bool:
        """Let the tasks of a process that died run elsewhere at once. What had begun counts as lost. Tried once.

        Returns:
            Whether nobody shall take its place, since it was drained and died before it could say so itself.
        """
        started = [entry.id for entry in began]

        def rescue(sql: Mapping[str, str], cursor: Cursor) -> bool:
            for watched in workers.watch(sql, cursor):
                if watched.worker_id == worker_id:
                    lost = workers.rescue(sql, cursor, watched, self._max_losses, started)
                    log.warning("worker.rescued", worker_id=worker_id, lost=lost or 0)
            return workers.is_drained(sql, cursor, worker_id)

        return bool(self._say(rescue, "worker.not_rescued"))

    def end_killed(self, worker_id: int, overdue: Iterable[PlacedRun] = ()) -> bool:
        """Let the tasks of a process that we killed wait again, uncounted; those that would not end, with a verdict.

        Returns:
            Whether nothing is left to rescue.
        """
        runs = [(entry.id, entry.run) for entry in overdue]
        end = partial(workers.end_killed, worker_id=worker_id, runs=runs, verdict=VERDICT_TIME_LIMIT)
        return self._say(end, "worker.not_ended", within=_RELEASE_SECONDS) is not None

    def is_drained(self, worker_id: int) -> bool:
        """Tell the same of a process that we killed."""
        drained = partial(workers.is_drained, worker_id=worker_id)
        return bool(self._say(drained, "worker.not_found"))

    def _say(self, statement: Statement, complaint: str, *, within: float = 0) -> int | None:
        """Run a statement, again while the sessions of a process that was killed still hold their locks."""
        deadline = time.monotonic() + within
        while True:
            try:
                with closing(connect(self._url)) as connection, connection.cursor() as cursor:
                    connection.autocommit = True
                    return statement(self._sql, cursor)
            except (psycopg2.Error, PipelineError) as error:
                if not isinstance(error, psycopg2.errors.LockNotAvailable) or time.monotonic() >= deadline:
                    log.warning(complaint, error=str(error).strip())
                    return None
