"""Delete what nobody needs any more and what is not dropped with its week."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errors

from pipeline.logger import get_logger
from pipeline.store import inbox, retention, stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.settings import Settings

_INTERVAL_SECONDS = 600.0
#: How soon to go on if there was more than fits into one transaction.
_RETRY_SECONDS = 5.0
_LIMIT = 5000

log = get_logger(__name__)


class Purger:
    """Deletes ended workers, expired results and counters, what belonged to tasks that are gone; joins old totals."""

    doers = 1

    def __init__(self, settings: Settings, where: tuple[str, str], sql: Mapping[str, str]) -> None:
        self._retention_days = settings.retention_days
        self._inbox = where
        self._sql = sql
        self._interval_seconds = _INTERVAL_SECONDS

    @property
    def interval_seconds(self) -> float:
        """Every ten minutes; at once again while there is more."""
        return self._interval_seconds

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Delete some of each kind."""
        deleted = retention.purge(self._sql, cursor, self._retention_days, _LIMIT)
        deleted |= {"carried": self._purge_carried(cursor), "answers": self._purge_answers(cursor)}
        deleted = {kind: count for kind, count in deleted.items() if count}
        if deleted:
            log.info("purge.done", **deleted)
        stats.join_totals(self._sql, cursor)
        self._interval_seconds = _RETRY_SECONDS if _LIMIT in deleted.values() else _INTERVAL_SECONDS

    def _purge_carried(self, cursor: Any) -> int:
        try:
            return retention.purge_carried(self._sql, cursor, self._retention_days, _LIMIT)
        except errors.LockNotAvailable:
            return 0  # somebody reads there for long: next time

    def _purge_answers(self, cursor: Any) -> int:
        try:
            return inbox.purge_answers(self._sql, cursor, self._inbox, _LIMIT)
        except (errors.LockNotAvailable, psycopg2.ProgrammingError):
            return 0  # the adopter says what is wrong with the inbox
