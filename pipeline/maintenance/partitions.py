"""Make the weekly partitions of the next weeks, and drop those whose time is over.

Both need locks that keep everybody out for a moment. A statement that does not get them within 50 ms gives up, so that
a long transaction (a backup, a report) costs nobody more than that; we try again later, with two weeks of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg2 import errors

from pipeline.logger import get_logger
from pipeline.store import retention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.settings import Settings

_INTERVAL_SECONDS = 600.0
#: How soon to try again after somebody was in the way.
_RETRY_SECONDS = 60.0
#: Tasks carried under one lock, which takes some milliseconds, and how many locks in a row.
_CARRY_LIMIT = 500
_BATCHES = 20
_CONTINUE_SECONDS = 1.0
_BEFORE_ALL = -(2**63)

log = get_logger(__name__)


class Partitions:
    """Keeps the weekly partitions in order."""

    doers = 1

    def __init__(self, settings: Settings, sql: Mapping[str, str]) -> None:
        self._retention_days = settings.retention_days
        self._sql = sql
        self._interval_seconds = _INTERVAL_SECONDS
        #: Up to which id the waiting tasks of a week have been carried.
        self._carried: dict[int, int] = {}

    @property
    def interval_seconds(self) -> float:
        """Every ten minutes; sooner if somebody was in the way, or if there is more to do."""
        return self._interval_seconds

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Make what is missing, drop what has expired; a lock that cannot be had is left for later."""
        try:
            self._make(cursor)
            is_done = self._drop(cursor)
            self._interval_seconds = _INTERVAL_SECONDS if is_done else _CONTINUE_SECONDS
        except (errors.LockNotAvailable, errors.CheckViolation):
            self._interval_seconds = _RETRY_SECONDS
            log.info("partitions.postponed", again_in=_RETRY_SECONDS)

    def _make(self, cursor: Any) -> None:
        for parent, week in retention.missing_partitions(self._sql, cursor, self._retention_days):
            if retention.make_partition(self._sql, cursor, parent, week):
                log.info("partition.made", table=parent, week=week)

    def _drop(self, cursor: Any) -> bool:
        """Drop expired weeks; False if there is more to carry first."""
        for week in retention.expired_weeks(self._sql, cursor, self._retention_days):
            if not self._carry(cursor, week):
                return False
            carried = retention.drop_week(self._sql, cursor, week)
            if carried is not None:
                log.info("week.dropped", week=week, carried=carried)
        return True

    def _carry(self, cursor: Any, week: int) -> bool:
        """Carry waiting tasks of a week batch by batch; False if there are more."""
        for _ in range(_BATCHES):
            after = self._carried.get(week, _BEFORE_ALL)
            last = retention.carry_tasks(self._sql, cursor, week, after, _CARRY_LIMIT)
            if last is None:
                self._carried.pop(week, None)
                return True
            self._carried[week] = last
        return False
