"""Count the runs that ended without a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.store import stats

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTERVAL_SECONDS = 10.0
#: How soon to go on if there is more.
_AGAIN_SECONDS = 0.1
_LIMIT = 1000


class StatFolder:
    """Adds what was put aside where it was concluded: cancelled while it waited, rescued, killed.

    It cannot be added there. That may be in a long transaction of somebody else's, and all who count would wait for it.
    """

    doers = 1

    def __init__(self, sql: Mapping[str, str]) -> None:
        self._sql = sql
        self._has_more = False

    @property
    def interval_seconds(self) -> float:
        """Every ten seconds; at once again while there is more."""
        return _AGAIN_SECONDS if self._has_more else _INTERVAL_SECONDS

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Add some of it."""
        self._has_more = stats.fold(self._sql, cursor, _LIMIT) == _LIMIT
