"""Write down how the runs of this process ended."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.store import stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTERVAL_SECONDS = 10.0


class Tally(Protocol):
    """Where they were counted."""

    def take(self) -> list[dict[str, Any]]:
        """Take what was counted since the last time."""

    def put_back(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep what could not be written."""


class TallyWriter:
    """Adds what this process has counted to the counters. A process that has run nothing asks nothing.

    A process that is killed takes what it counted since the last time along. If the connection is lost while the rows
    are on their way, they are written again, and may then count twice: nothing depends on it.
    """

    interval_seconds = _INTERVAL_SECONDS
    #: Each worker has its own.
    doers = sys.maxsize

    def __init__(self, tally: Tally, sql: Mapping[str, str]) -> None:
        self._tally = tally
        self._sql = sql

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Write once."""
        rows = self._tally.take()
        if not rows:
            return
        try:
            stats.add(self._sql, cursor, json.dumps(rows))
        except BaseException:
            self._tally.put_back(rows)
            raise
