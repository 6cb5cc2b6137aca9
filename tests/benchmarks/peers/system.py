"""What a module in ``systems`` offers. The modules are the implementations: functions, no classes."""

from __future__ import annotations

import threading
from typing import Protocol


class System(Protocol):
    """One task queue, seen by a child process. Its actors count themselves in ``tally.TALLY``."""

    def set_up(self) -> None:
        """Make its tables in a fresh database."""

    def send_one(self, number: int, text: str) -> None:
        """Send a no-op task by the ordinary call, outside a transaction; it is durable when this returns."""

    def send_many(self, count: int, text: str) -> None:
        """Send that many in the quickest way there is; only of systems with ``bulk`` in the catalog."""

    def send_timed(self, sent_at: float) -> None:
        """Send a task that tells how long after ``sent_at`` (``time.monotonic()``) it began."""

    def work(self, is_over: threading.Event) -> None:
        """Work in this process and its children until the event is set."""
