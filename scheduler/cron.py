"""Cron texts: read them field by field, and make APScheduler's trigger of them.

APScheduler reads cron texts too, but counts the days of the week from Monday, wants both days to match where cron takes
either, and does not say which field is wrong. So the text is read here, and handed over as fields that it agrees on.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.expressions import AllExpression
from apscheduler.triggers.cron.fields import DayOfMonthField

from pipeline.errors import ScheduleInvalid


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five fields: its name, what ``*`` stands for, and names that its values have."""

    name: str
    lowest: int
    highest: int
    names: dict[str, int] = field(default_factory=dict)
    also: int | None = None

    def error(self, reason: str) -> ScheduleInvalid:
        """Say what is wrong in this field."""
        return ScheduleInvalid("expression", f"{self.name}: {reason}")


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
MONTH = Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)})
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
WEEKDAY = Field("day of week", 0, 6, {name: number for number, name in enumerate(_WEEKDAYS)}, also=7)

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_POSITIONS = {"1": "1st", "2": "2nd", "3": "3rd", "4": "4th", "5": "5th", "l": "last"}


def cron_trigger(text: str) -> CronTrigger:
    """Make a trigger of a cron text; raise ``ScheduleInvalid``, which names the field, if that cannot be."""
    minute, hour, day, month, weekday = _fields(text)
    months = list(_numbers(MONTH, month))
    trigger = _CronTrigger(
        minute=_ranges(MINUTE, minute),
        hour=_ranges(HOUR, hour),
        day=_days(day, weekday),
        month=_ranges(MONTH, month),
        timezone=UTC,
    )
    if weekday == "*":
        _check_there_is_such_a_day(day, months)
    return trigger


def days_and_times(text: str) -> tuple[CronTrigger, list[timedelta]]:
    """Take a cron text apart: the midnights of its days, and when on each of them it is due."""
    minute, hour, *days = _fields(text)
    hours, minutes = sorted(set(_numbers(HOUR, hour))), sorted(set(_numbers(MINUTE, minute)))
    times = [timedelta(hours=one, minutes=other) for one in hours for other in minutes]
    return cron_trigger(" ".join(["0 0", *days])), times


def repeats(text: str) -> bool:
    """Tell whether the text means "again and again" rather than times of the day."""
    minute, hour, *_ = _fields(text)
    return bool(set("*/-") & set(hour) or set("*/") & set(minute))


# --- reading ----------------------------------------------------------------------------------------------------------


def _fields(text: str) -> list[str]:
    text = text.strip().lower()
    if text.startswith("@") and text not in _NAMED:
        raise ScheduleInvalid("expression", f'"{text}" is none of {", ".join(_NAMED)}')
    fields = _NAMED.get(text, text).split()
    if len(fields) != 5:
        names = ", ".join(one.name for one in (MINUTE, HOUR, DAY, MONTH, WEEKDAY))
        raise ScheduleInvalid("expression", f'"{text}" has {len(fields)} fields; a cron text has five: {names}')
    return fields


def _ranges(of: Field, text: str) -> str:
    """Write a field as APScheduler reads it: ``first-last/step``, where the last one is one of the steps."""
    return "*" if text == "*" else ",".join(_range(_item(of, item)) for item in text.split(","))


def _range(numbers: range) -> str:
    return f"{numbers[0]}-{numbers[-1]}/{numbers.step}" if len(numbers) > 1 else f"{numbers[0]}"


def _numbers(of: Field, text: str) -> Iterator[int]:
    for item in text.split(","):
        yield from _item(of, item)


def _item(of: Field, item: str) -> range:
    """Read one item of a list: ``5``, ``1-5``, ``*``, and each of them with a step."""
    body, slash, step_text = item.partition("/")
    step = _step(of, step_text) if slash else 1
    first_text, dash, last_text = body.partition("-")
    if body == "*":
        return range(of.lowest, of.highest + 1, step)
    first = _number(of, first_text)
    last = _number(of, last_text) if dash else (of.highest if slash else first)
    if last < first and of is WEEKDAY:
        last += 7  # a week has no beginning that all agree on: sat-mon are three days
    if last < first:
        raise of.error(f"{body} runs backwards; write {first_text}-{of.highest},{of.lowest}-{last_text}")
    return range(first, last + 1, step)


def _number(of: Field, text: str) -> int:
    if text in of.names:
        return of.names[text]
    if not (text.isascii() and text.isdigit()):
        known = f"neither a number nor one of {', '.join(of.names)}" if of.names else "not a number"
        raise of.error(f'"{text}" is {known}')
    number = int(text)
    if number < of.lowest:
        raise of.error(f"{number} is below {of.lowest}")
    if number > of.highest and number != of.also:
        raise of.error(f"{number} is above {of.also or of.highest}")
    return number


def _step(of: Field, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise of.error(f'the step "{text}" is not a number above 0')
    if int(text) > of.highest - of.lowest:
        raise of.error(f"a step of {text} leads out of {of.lowest}-{of.highest}; what counts on is an interval")
    return int(text)


# --- days -------------------------------------------------------------------------------------------------------------


def _days(day: str, weekday: str) -> str:
    """Write both fields of days as one list: where both are restricted, either matches."""
    days = [] if day == "*" else [_day(item) for item in day.split(",")]
    weekdays = [] if weekday == "*" else [_weekday(item) for item in weekday.split(",")]
    return ",".join(days + weekdays) or "*"


def _day(item: str) -> str:
    return {"l": "last", "lw": "lw"}.get(item) or _range(_item(DAY, item))


def _weekday(item: str) -> str:
    name, hash_, position = item.partition("#")
    if not hash_:
        return "weekday " + "".join(str((number - 1) % 7) for number in _item(WEEKDAY, item))
    if position not in _POSITIONS:
        raise WEEKDAY.error(f'"{item}" has no position such as mon#1 to mon#5, or mon#L for the last one of the month')
    return f"{_POSITIONS[position]} {_WEEKDAYS[_number(WEEKDAY, name) % 7]}"


def _check_there_is_such_a_day(day: str, months: list[int]) -> None:
    """Refuse the 30th of February, which never comes."""
    if day == "*" or "l" in day:
        return
    first, longest = min(_numbers(DAY, day)), max(monthrange(2024, month)[1] for month in months)
    if first > longest:
        raise DAY.error(f"{first} is never due, since the month has at most {longest} days; the last one is L")


class _Weekdays(AllExpression):
    """Every day of the month that is one of these days of the week, Monday being 0."""

    value_re = re.compile(r"weekday (?P<weekdays>[0-6]+)$")

    def __init__(self, weekdays: str) -> None:
        super().__init__()
        self.weekdays = frozenset(map(int, weekdays))

    def get_next_value(self, day: date, field: DayOfMonthField) -> int | None:
        ahead = min((weekday - day.weekday()) % 7 for weekday in self.weekdays)
        return day.day + ahead if day.day + ahead <= field.get_max(day) else None


class _LastBusinessDay(AllExpression):
    """The last Monday to Friday of the month."""

    value_re = re.compile(r"lw$")

    def get_next_value(self, day: date, field: DayOfMonthField) -> int | None:
        first_weekday, last = monthrange(day.year, day.month)
        weekday = (first_weekday + last - 1) % 7
        last -= max(0, weekday - 4)
        return last if last >= day.day else None


class _DayField(DayOfMonthField):
    COMPILERS = (_Weekdays, _LastBusinessDay, *DayOfMonthField.COMPILERS)


class _CronTrigger(CronTrigger):
    FIELDS_MAP = {**CronTrigger.FIELDS_MAP, "day": _DayField}  # noqa: RUF012 - as APScheduler has it
