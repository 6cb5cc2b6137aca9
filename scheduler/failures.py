"""Schedules that are due and cannot be fired, such as those of an actor that this program does not know."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psycopg2

from pipeline.errors import ActorUnknown, PipelineError
from pipeline.logger import get_logger

#: How often a schedule that cannot be fired is complained of.
_COMPLAINT_SECONDS = 60.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Failure:
    schedule: str
    complained_at: float


class Failures:
    """Complains of each at first, and then once a minute."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._failures: dict[int, _Failure] = {}

    @property
    def schedules(self) -> list[str]:
        """The names of those that cannot be fired."""
        with self._mutex:
            return sorted(failure.schedule for failure in self._failures.values())

    def add(self, number: int, schedule: str, error: Exception) -> None:
        """Note that one cannot be fired."""
        now = time.monotonic()
        with self._mutex:
            failure = self._failures.get(number)
            if failure is not None and now - failure.complained_at < _COMPLAINT_SECONDS:
                return
            self._failures[number] = _Failure(schedule, now)
        is_told_in_a_line = isinstance(error, PipelineError | psycopg2.Error)
        exc_info = None if is_told_in_a_line else error
        log.error("schedule.not_fired", schedule=schedule, error=_reason(error), exc_info=exc_info)

    def remove(self, number: int) -> None:
        """Note that there is nothing to complain of any more."""
        with self._mutex:
            self._failures.pop(number, None)


def _reason(error: Exception) -> str:
    if isinstance(error, ActorUnknown):
        return f"this program knows no actor {error.actor}; name the module that declares it as an argument"
    return str(error).strip() or type(error).__name__
