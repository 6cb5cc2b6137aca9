"""How many instants a daemon has dealt with since its last beat, which takes these numbers along."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

#: A schedule, and what became of an instant, by the letter that ``firing`` has for it.
Counts = Mapping[tuple[str, str], int]


class Totals:
    """Counts by schedule and outcome."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, schedule: str, *, fired: int, left_out: int, missed: int) -> None:
        """Count some instants."""
        self.put_back({(schedule, letter): n for letter, n in (("f", fired), ("o", left_out), ("m", missed)) if n})

    def taken(self) -> Counts:
        """Take all that was counted."""
        with self._mutex:
            counts, self._counts = self._counts, Counter()
            return counts

    def put_back(self, counts: Counts) -> None:
        """Count what was taken in vain."""
        with self._mutex:
            self._counts.update(counts)
