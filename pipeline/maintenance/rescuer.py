"""Take back what dead workers held.

A worker is dead if its beat stood still for a lease, by this process's own monotonic clock and over one unbroken
database session: no clock of another machine matters, and after an outage nobody looks dead until a whole lease has
been watched.

Quicker, where sessions are visible (not behind a pooler): a worker whose registered sessions have all vanished while we
watched, and whose beat has stood still for a fifth of the lease, is dead too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2 import errors

from pipeline.logger import get_logger
from pipeline.store import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.settings import Settings
    from pipeline.store.workers import WatchedWorker

#: What part of the lease the beat of a worker without sessions must have stood still.
_QUICK_PART = 0.2
#: After so many failed rescues the database sessions of the worker are ended.
_PATIENCE = 2

log = get_logger(__name__)


@dataclass(slots=True)
class _Sighting:
    """What we know of one worker: its beat, since when, and whether we ever saw its sessions."""

    beat: int
    since: float
    had_sessions: bool
    failures: int = 0


class Rescuer:
    """Watches the beats of all workers and rescues what the dead ones held."""

    #: If one of them dies, others have watched it.
    doers = 4

    def __init__(self, settings: Settings, sql: Mapping[str, str], own_id: Callable[[], int]) -> None:
        self._lease_seconds = settings.lease_seconds
        self._max_losses = settings.max_losses
        # Behind a pooler the sessions are the pooler's: they vanish when it likes, and serve others.
        self._knows_sessions = settings.listen and settings.listen_database_url is None
        self._sql = sql
        self._own_id = own_id
        self._seen: dict[int, _Sighting] = {}
        self._watching_since = time.monotonic()

    @property
    def interval_seconds(self) -> float:
        """Some ten times in a lease; less often while there is nobody to watch."""
        return max(self._lease_seconds / (10 if len(self._seen) > 1 else 5), 0.1)

    def forget(self) -> None:
        """Start watching anew: the database session was interrupted, so nothing seen before it counts."""
        self._seen.clear()
        self._watching_since = time.monotonic()

    def run(self, cursor: Any) -> None:
        """Look at all workers once."""
        now = time.monotonic()
        watched = workers.watch(self._sql, cursor)
        self._seen = {worker.worker_id: self._sighting(worker, now) for worker in watched}
        for worker in watched:
            if worker.worker_id != self._own_id() and self._is_dead(worker, now):
                self._rescue(cursor, worker)

    def _sighting(self, worker: WatchedWorker, now: float) -> _Sighting:
        seen = self._seen.get(worker.worker_id)
        if seen is None or seen.beat != worker.beat:
            had_sessions = worker.sessions > 0 or (seen is not None and seen.had_sessions)
            return _Sighting(worker.beat, now, had_sessions)
        seen.had_sessions = seen.had_sessions or worker.sessions > 0
        return seen

    def _is_dead(self, worker: WatchedWorker, now: float) -> bool:
        seen = self._seen[worker.worker_id]
        silent = now - seen.since
        if silent >= self._lease_seconds:
            return True
        has_vanished = self._knows_sessions and seen.had_sessions and worker.sessions == 0
        has_watched_long = now - self._watching_since >= self._lease_seconds
        return has_vanished and has_watched_long and silent >= _QUICK_PART * self._lease_seconds

    def _rescue(self, cursor: Any, worker: WatchedWorker) -> None:
        seen = self._seen[worker.worker_id]
        try:
            lost = workers.rescue(self._sql, cursor, worker, self._max_losses)
        except errors.LockNotAvailable:
            seen.failures += 1
            if seen.failures >= _PATIENCE and self._knows_sessions:
                ended = workers.end_backends(self._sql, cursor, worker.worker_id)
                log.warning("worker.sessions_ended", worker_id=worker.worker_id, sessions=ended)
            return
        if lost is not None:
            log.warning("worker.rescued", worker_id=worker.worker_id, lost=lost)
