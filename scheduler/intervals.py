"""Intervals, of elapsed time and of the calendar: read them, and make triggers of them."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, time, timedelta

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from pipeline.errors import ScheduleInvalid

_INTERVAL = re.compile(r"(?a)(\d+) ?([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_DAYS = 3650

_CALENDAR = re.compile(r"(?a)(\d+) (day|week|month|year)s?(?: (\d\d):(\d\d)(?::(\d\d))?)?")
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}
_LONGEST_YEARS = 50


def interval(text: str) -> timedelta:
    """Read an interval such as ``90``, ``90s``, ``15m``, ``2h`` or ``1d``; a day has 24 hours here."""
    match = _INTERVAL.fullmatch(text.strip().lower())
    if not match:
        raise _invalid(text, "not an interval such as 90s, 15m, 2h or 1d")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 1 <= seconds <= _LONGEST_DAYS * 86400:
        raise _invalid(text, f"not between 1s and {_LONGEST_DAYS}d; longer ones are calendar intervals")
    return timedelta(seconds=seconds)


def interval_trigger(text: str, anchor: datetime) -> IntervalTrigger:
    """Make a trigger that is due at the anchor, and then again and again after the interval."""
    return IntervalTrigger(seconds=int(interval(text).total_seconds()), start_date=anchor, timezone=UTC)


def calendar_trigger(text: str, anchor: datetime) -> CalendarTrigger:
    """Make a trigger of a text such as ``1 month 09:30``, from the reading of the clock at the anchor."""
    match = _CALENDAR.fullmatch(text.strip().lower())
    if not match:
        raise _invalid(text, 'not a calendar interval such as "1 month 09:30", "2 weeks" or "1 year"')
    number, unit = int(match[1]), match[2]
    days, months = number * _DAYS.get(unit, 0), number * _MONTHS.get(unit, 0)
    if not 1 <= days + months * 30 <= _LONGEST_YEARS * 366:
        raise _invalid(text, f"not between a day and {_LONGEST_YEARS} years")
    return CalendarTrigger(_at(text, anchor, match.groups()[2:]), days=days, months=months)


def _at(text: str, anchor: datetime, clock: tuple[str | None, ...]) -> datetime:
    """Take the time of the day from the text, or else from the anchor."""
    if clock[0] is None:
        return anchor
    hour, minute, second = (int(part or 0) for part in clock)
    try:
        return datetime.combine(anchor, time(hour, minute, second), UTC)
    except ValueError as error:
        raise _invalid(text, f"not a time of the day: {error}") from None


def _invalid(text: str, reason: str) -> ScheduleInvalid:
    return ScheduleInvalid("expression", f'"{text}" is {reason}')


class CalendarTrigger(BaseTrigger):
    """Every so many days or months, at the same time of the day, counted from the first one.

    APScheduler's CalendarIntervalTrigger counts from the firing before, and leaves out months that lack the day. This
    one counts from the first firing, so that the 31st of January leads to the 28th of February and on to the 31st of
    March, as ``date + n * interval '1 month'`` does in PostgreSQL.
    """

    def __init__(self, first: datetime, *, days: int = 0, months: int = 0) -> None:
        self.first, self.days, self.months = first, days, months

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the first firing at or after ``now``."""
        count = max(0, self._whole_steps(now))
        while (found := self._nth(count)) < now:
            count += 1
        return found

    def _whole_steps(self, now: datetime) -> int:
        """Return the number of steps from the first one to the last that may still lie before ``now``."""
        if self.days:
            return (now - self.first) // timedelta(days=self.days)
        return (12 * (now.year - self.first.year) + now.month - self.first.month) // self.months

    def _nth(self, count: int) -> datetime:
        if self.days:
            return self.first + timedelta(days=count * self.days)
        years, month = divmod(self.first.month - 1 + count * self.months, 12)
        year, month = self.first.year + years, month + 1
        return self.first.replace(year=year, month=month, day=min(self.first.day, monthrange(year, month)[1]))
