"""From what the clock of a zone shows to instants, jump by jump.

Between two jumps of its clock, reading and instant are one to one. A jump forward leaves readings out, which together
become one instant, that of the jump, or none. A jump back repeats readings, which are due again, or not. So instants
increase by construction.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta

from scheduler import zones
from scheduler.clock import Clock
from scheduler.cron import days_and_times
from scheduler.timing import Fold, Gap, Timing
from scheduler.zones import Jump

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
#: No clock was ever set back by more than a day.
_LONGEST_FOLD = timedelta(days=2)
#: Where all is left out for so long, all is. The rarest cron text, a fifth Monday of February, comes every 40 years.
_GIVE_UP = timedelta(days=366 * 60)


def first_due(timing: Timing, clock: Clock, start: datetime) -> datetime | None:
    """Find the first due instant at or after a whole second."""
    start = _past_repeat(timing, clock, start)
    since = start - _SECOND  # the start may itself be a jump, and due for what that leaves out
    offset = zones.offset(clock.zone, since)
    reading = clock.first(start + offset)
    give_up = (reading or start) + _GIVE_UP
    while start <= give_up:
        until = reading - offset if reading else start + _LONGEST_FOLD
        jump = next(zones.jumps(clock.zone, since, until), None)
        if jump is None:
            return until if reading else None
        if _leaves_out(timing, jump, reading):
            return jump.at
        start, since, offset = _go_on_at(timing, jump), jump.at, jump.after
        reading = clock.first(start + offset)
    return None


def count_cron(timing: Timing, clock: Clock, start: datetime, end: datetime) -> int:
    """Count the due instants of a cron text between two of them, day by day; the two count as well."""
    since, total = start - _SECOND, 0
    offset = zones.offset(clock.zone, since)
    while True:
        jump = next(zones.jumps(clock.zone, since, end), None)
        stop = jump.at if jump else end + _SECOND
        total += _count_readings(timing, start + offset, stop + offset)
        if jump is None:
            return total
        resumed = jump.at + jump.after
        total += _leaves_out(timing, jump, clock.first(jump.at + jump.before)) and clock.first(resumed) != resumed
        start, since, offset = _go_on_at(timing, jump), jump.at, jump.after


def _count_readings(timing: Timing, begin: datetime, end: datetime) -> int:
    """Count the readings in [begin, end) at which a cron text is due."""
    days, times = days_and_times(timing.expression)
    midnight, total = begin.replace(hour=0, minute=0, second=0), 0
    while (day := days.get_next_fire_time(None, midnight)) is not None and day < end:
        total += bisect_left(times, end - day) - bisect_left(times, begin - day)
        midnight = day + _DAY
    return total


def _leaves_out(timing: Timing, jump: Jump, reading: datetime | None) -> bool:
    """Tell whether the instant of the jump stands for the first reading that the clock would have shown after it."""
    return timing.gap == Gap.NEXT and reading is not None and reading < jump.at + jump.after


def _go_on_at(timing: Timing, jump: Jump) -> datetime:
    return jump.repeats_until if timing.fold == Fold.FIRST else jump.at


def _past_repeat(timing: Timing, clock: Clock, start: datetime) -> datetime:
    """Leave the rest of a repetition out that is going on, if readings count the first time only."""
    if timing.fold == Fold.BOTH:
        return start
    return max([start, *(jump.repeats_until for jump in zones.jumps(clock.zone, start - _LONGEST_FOLD, start))])
