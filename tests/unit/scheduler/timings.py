"""Schedules for tests, and their due instants found in the simplest way: by looking at every minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from scheduler.timing import Fold, Gap, Kind, Timing
from tests.fixtures.scale import IS_LONG

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
ANCHOR = datetime(2019, 12, 31, 23, 15, tzinfo=UTC)


#: Of tests with ``examples``, on a machine that does something else, too.
timeout = pytest.mark.timeout(900 if IS_LONG else 120)


def examples(few: int) -> settings:
    """Try so many examples, and many more with ``./dev test --long``; one that fails is printed with how to repeat it."""
    return settings(max_examples=few * 10 if IS_LONG else few, deadline=None, print_blob=True)


def cron(text: str, timezone: str = "UTC", **others: Any) -> Timing:
    return Timing(Kind.CRON, text, timezone, **{"anchor_at": ANCHOR} | others)


def interval(text: str, timezone: str = "UTC", **others: Any) -> Timing:
    return Timing(Kind.INTERVAL, text, timezone, **{"anchor_at": ANCHOR} | others)


def calendar(text: str, timezone: str = "UTC", **others: Any) -> Timing:
    return Timing(Kind.CALENDAR, text, timezone, **{"anchor_at": ANCHOR} | others)


def once(text: str, timezone: str = "UTC", **others: Any) -> Timing:
    return Timing(Kind.ONCE, text, timezone, **{"anchor_at": ANCHOR} | others)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- cron texts whose meaning is known --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cron:
    """A cron text and, apart from it, what it means."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None

    def matches(self, local: datetime) -> bool:
        return (
            local.minute in self.minutes
            and local.hour in self.hours
            and local.month in self.months
            and self._matches_day(local)
        )

    def _matches_day(self, local: datetime) -> bool:
        by_day = self.days is not None and local.day in self.days
        by_weekday = self.weekdays is not None and local.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday or (self.days is None and self.weekdays is None)


Part = tuple[str, frozenset[int]]


def _parts(lowest: int, highest: int, names: dict[int, str] | None = None) -> st.SearchStrategy[Part]:
    """One field: the text, and the values that it stands for."""
    everything = frozenset(range(lowest, highest + 1))
    value = st.integers(lowest, highest)

    def written(number: int) -> str:
        return (names or {}).get(number, str(number))

    def ranged(ends: tuple[int, int], step: int) -> Part:
        first, last = sorted(ends)
        text = f"{written(first)}-{written(last)}" + (f"/{step}" if step > 1 else "")
        return text, frozenset(range(first, last + 1, step))

    steps = st.integers(2, max(2, (highest - lowest) // 2))
    single = value.map(lambda number: (written(number), frozenset({number})))
    ranges = st.builds(ranged, st.tuples(value, value), st.integers(1, 4))
    stepped = steps.map(lambda step: (f"*/{step}", frozenset(range(lowest, highest + 1, step))))
    lists = st.lists(single | ranges, min_size=2, max_size=3).map(_joined)
    return st.just(("*", everything)) | single | ranges | stepped | lists


def _joined(parts: list[Part]) -> Part:
    return ",".join(text for text, _ in parts), frozenset().union(*(values for _, values in parts))


def _cron(minute: Part, hour: Part, day: Part, month: Part, weekday: Part) -> Cron:
    text = " ".join(part[0] for part in (minute, hour, day, month, weekday))
    days = None if day[0] == "*" else day[1]
    weekdays = None if weekday[0] == "*" else weekday[1]
    return Cron(text, minute[1], hour[1], days, month[1], weekdays)


#: The days stay below 29, so that each of them comes in every month.
crons = st.builds(
    _cron,
    _parts(0, 59),
    _parts(0, 23),
    st.just(("*", frozenset(range(1, 32)))) | _parts(1, 28).filter(lambda part: "*" not in part[0]),
    st.just(("*", frozenset(range(1, 13)))) | _parts(1, 12),
    st.just(("*", frozenset(range(7)))) | _parts(0, 6, dict(enumerate(WEEKDAYS))),
)
gaps, folds, zone_names = st.sampled_from(Gap), st.sampled_from(Fold), st.sampled_from(ZONES)
moments = st.integers(0, int((END - BEGIN).total_seconds())).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
timings = st.one_of(
    st.builds(lambda one, zone, gap, fold: cron(one.text, zone, gap=gap, fold=fold), crons, zone_names, gaps, folds),
    st.builds(lambda minutes, zone: interval(f"{minutes}m", zone), st.integers(1, 4000), zone_names),
    st.builds(
        lambda every, unit, at, zone, gap, fold: calendar(f"{every} {unit}{at}", zone, gap=gap, fold=fold),
        st.integers(1, 5),
        st.sampled_from(["day", "weeks", "months"]),
        st.sampled_from(["", " 02:30", " 01:45"]),
        zone_names,
        gaps,
        folds,
    ),
)


# --- jumps of clocks, and due instants, minute by minute --------------------------------------------------------------


@cache
def jumps(name: str) -> tuple[datetime, ...]:
    """The instants from 2020 to 2040 at which the clock of a zone jumps: they are whole half hours."""
    zone, day = ZoneInfo(name), BEGIN
    found: list[datetime] = []
    while day < END:
        if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset():
            halves = [day + n * HOUR / 2 for n in range(49)]
            offsets = [one.astimezone(zone).utcoffset() for one in halves]
            found += [halves[n] for n in range(1, 49) if offsets[n] != offsets[n - 1]]
        day += DAY
    return tuple(found)


def minute_by_minute(
    matches: Callable[[datetime], bool], timing: Timing, after: datetime, until: datetime
) -> list[datetime]:
    """Find the due instants in (after, until], both whole minutes, by looking at each minute and at the policies."""
    zone, found, instant = ZoneInfo(timing.timezone), [], after
    while instant < until:
        before, instant = instant.astimezone(zone), instant + MINUTE
        local = instant.astimezone(zone)
        left_out = local.utcoffset() - before.utcoffset()  # type: ignore[operator]
        if matches(local):
            is_due = not (local.fold and timing.fold is Fold.FIRST)
        else:
            jumped_over = [before + n * MINUTE for n in range(1, int(left_out / MINUTE) + 1)]
            is_due = timing.gap is Gap.NEXT and any(matches(one.replace(tzinfo=None)) for one in jumped_over)
        if is_due:
            found.append(instant)
    return found
