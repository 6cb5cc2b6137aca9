"""What of a schedule is to be fired now, and what was missed: a function of its row and of what time it is.

An instant is on time until its schedule's ``grace_seconds`` are over; what nobody has fired by then was missed. What
is done about those that were missed, the schedule says:

- ``skip``: none of them is fired;
- ``once``: the last of them is fired;
- ``all``: all are fired, those older than ``max_age_seconds`` excepted, if there is such a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from scheduler.instants import between, latest

if TYPE_CHECKING:
    from pipeline.store.schedules import ScheduleRow
    from scheduler.timing import Timing

#: So many tasks are made by one statement; the rest follows at once.
MOST = 100

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DueNow:
    """What is to be written at once."""

    #: Those that are fired, in their order.
    instants: tuple[datetime, ...]
    #: The last of those before them that nobody fires any more, and how many these are.
    missed: datetime | None
    missed_count: int

    @property
    def until(self) -> datetime:
        """How far the schedule has come then."""
        return max(filter(None, (*self.instants[-1:], self.missed)))


def due_now(schedule: ScheduleRow, timing: Timing, now: datetime) -> DueNow | None:
    """Tell what is to be fired and what was missed; ``None`` if nothing is due. Never an instant after ``now``."""
    missed, count = _passed_over(schedule, timing, now)
    instants = tuple(islice(between(timing, missed or schedule.done_until, now), MOST))
    return DueNow(instants, missed, count) if instants or missed else None


def _passed_over(schedule: ScheduleRow, timing: Timing, now: datetime) -> tuple[datetime | None, int]:
    """Find the last instant that is too old to be fired, and how many of them there are."""
    seconds = _fired_for_seconds(schedule)
    if seconds is None:
        return None, 0
    done, too_old = schedule.done_until, now - timedelta(seconds=seconds) - _MICROSECOND
    last, count = latest(timing, done, too_old)
    if last is None or schedule.missed != "once":
        return last, count
    return latest(timing, done, last - _MICROSECOND)


def _fired_for_seconds(schedule: ScheduleRow) -> int | None:
    """Tell for how long after it is due an instant is fired; ``None``: however late it is."""
    if schedule.missed != "all":
        return schedule.grace_seconds
    return None if schedule.max_age_seconds is None else max(schedule.max_age_seconds, schedule.grace_seconds)
