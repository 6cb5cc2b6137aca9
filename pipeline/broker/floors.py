"""Where the live rows of each lane begin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Time to find due rows above which dead ones are suspected at the head of the lanes, and what a live row costs.
_SLOW_MS = 5.0
_MS_PER_ROW = 0.02
#: Everything is scanned this often. Less often if it takes more than this share of a worker's time, for a million dead
#: rows take 0.1 s; but at least so often, however many they are.
_FULL_SCAN_SECONDS = 1.0
_FULL_SCAN_SHARE = 0.01
_RAREST_FULL_SCAN_SECONDS = 10.0


class Floors:
    """What the scans of a worker learned, while a pinned xmin keeps dead rows in front of the live ones.

    A floor is only a hint about cost: everything is scanned again within a second, or ten if there are very many dead
    rows, so a row that was committed late with an early eta waits no longer than that. The server never lets a floor
    stand later than two seconds ago.
    """

    def __init__(self) -> None:
        self._floors: dict[int, float] = {}
        self._is_slow = False
        self._was_full_scan = True
        self._full_scan_at = time.monotonic()
        self._full_scan_seconds = _FULL_SCAN_SECONDS
        self._wading_ms = 0.0

    def arguments(self) -> tuple[str | None, str | None]:
        """Give the lanes and floors of the next exchange; nothing for a full scan."""
        now = time.monotonic()
        if not self._is_slow or not self._floors or now - self._full_scan_at >= self._full_scan_seconds:
            self._full_scan_at = now
            self._was_full_scan = True
            return None, None
        self._was_full_scan = False
        lanes = ",".join(map(str, self._floors))
        floors = ",".join(map(repr, self._floors.values()))
        return "{" + lanes + "}", "{" + floors + "}"

    def lower(self, places: Iterable[tuple[int, float | None]]) -> None:
        """Let the next scan of a lane find what comes back to its old place: its eta, None for what does not."""
        for lane, eta in places if self._floors else ():
            if eta is not None and lane in self._floors:
                self._floors[lane] = min(self._floors[lane], eta)

    def learn(self, scan_ms: float, rows: list[Any], want: int, lanes: Iterable[int]) -> None:
        """Note where the live rows began, and whether scanning to them was slow."""
        if want <= 0:
            return
        if self._was_full_scan:
            wading_ms = scan_ms - len(rows) * _MS_PER_ROW
            self._is_slow = wading_ms > _SLOW_MS
            # One slow scan alone may have been the machine's fault, and must not put off the next one.
            rest_seconds = min(wading_ms, self._wading_ms) / 1000 / _FULL_SCAN_SHARE
            self._wading_ms = wading_ms
            self._full_scan_seconds = min(max(rest_seconds, _FULL_SCAN_SECONDS), _RAREST_FULL_SCAN_SECONDS)
        if not self._is_slow:
            self._floors.clear()
            return
        if len(rows) < want:  # every lane was scanned to its end: those without rows have nothing due
            self._floors = dict.fromkeys(lanes, float("inf"))
        firsts: dict[int, float] = {}
        for row in rows:
            firsts[row[4]] = min(row[5], firsts.get(row[4], float("inf")))
        self._floors |= firsts  # and not the least of old and new: a backlog that never ends moves on
