"""What time it is for the database, which alone decides what is due."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

#: How far the two clocks may move against each other until timers are set anew. Nobody notices a quarter of a second.
_TOLERANCE_SECONDS = 0.25


class DatabaseClock:
    """The database's clock, as it was told last and as time has gone on here since; our own clock does not matter."""

    def __init__(self) -> None:
        self._told = datetime.now(UTC), time.monotonic()
        #: By how much the database's clock was ahead of this machine's when timers were set anew last.
        self._ahead: float | None = None

    def now(self) -> datetime:
        """Estimate what time it is there."""
        now, at = self._told
        return now + timedelta(seconds=time.monotonic() - at)

    def set(self, now: datetime, *, asked_at: float, answered_at: float) -> bool:
        """Take over what it has told between two moments of our monotonic clock.

        Returns:
            Whether one of the two clocks was set since, or has slowly gone astray: timers that were set by this
            machine's clock then come at a wrong time.
        """
        self._told = now, (asked_at + answered_at) / 2
        ahead = (self.now() - datetime.now(UTC)).total_seconds()
        if self._ahead is not None and abs(ahead - self._ahead) <= _TOLERANCE_SECONDS + (answered_at - asked_at):
            return False
        was_known, self._ahead = self._ahead is not None, ahead
        return was_known
