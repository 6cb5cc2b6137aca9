"""Intervals of elapsed time, intervals of the calendar, and single moments."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ScheduleInvalid
from scheduler.instants import LATEST, between, following
from scheduler.timing import Fold, Gap, Timing, check
from tests.unit.scheduler.timings import ANCHOR, calendar, examples, interval, moments, once, timeout, utc

pytestmark = timeout


def first(timing: Timing, n: int) -> list[str]:
    zone = ZoneInfo(timing.timezone)
    return [f"{one.astimezone(zone):%Y-%m-%d %H:%M}" for one in islice(between(timing, utc("1970-01-01"), LATEST), n)]


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("90", timedelta(seconds=90)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        (" 1 D ", timedelta(days=1)),
    ],
)
def test_an_interval_begins_at_its_anchor_and_comes_again_and_again(text: str, every: timedelta) -> None:
    found = list(islice(between(interval(text), utc("1970-01-01"), LATEST), 4))

    assert found == [ANCHOR + n * every for n in range(4)]


@given(seconds=st.integers(1, 3650 * 86400), after=moments)
@examples(200)
def test_an_interval_never_drifts(seconds: int, after: datetime) -> None:
    found = following(interval(str(seconds)), after)

    assert found is not None
    assert (found - ANCHOR) % timedelta(seconds=seconds) == timedelta(0)
    assert after < found <= after + timedelta(seconds=seconds)


def test_an_interval_is_elapsed_time_also_when_the_clock_jumps() -> None:
    anchored = interval("1d", "Europe/Berlin", anchor_at=utc("2026-03-28T11:00"))

    assert first(anchored, 3) == ["2026-03-28 12:00", "2026-03-29 13:00", "2026-03-30 13:00"]


def test_fractions_of_a_second_of_the_anchor_are_cut_off() -> None:
    anchored = interval("1m", anchor_at=ANCHOR.replace(microsecond=999_999))

    assert following(anchored, utc("2026-01-01T00:00:00.500000")) == utc("2026-01-01T00:01:00")


def test_anchors_that_a_zone_calls_alike_are_two() -> None:
    anchor = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    assert first(interval("1d", anchor_at=anchor), 1) == ["2026-10-25 00:30"]
    assert first(interval("1d", anchor_at=anchor.replace(fold=1)), 1) == ["2026-10-25 01:30"]


@pytest.mark.parametrize("text", ["", "m", "0", "0s", "-5m", "1.5h", "5 minutes", "1h30m", "3651d", "٣m", "9" * 400])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ScheduleInvalid, match="interval|not between"):
        check(interval(text))


# --- the calendar -----------------------------------------------------------------------------------------------------


def test_a_calendar_interval_keeps_its_time_of_the_day_when_the_clock_jumps() -> None:
    daily = calendar("1 day", "Europe/Berlin", anchor_at=utc("2026-03-28T11:00"))

    assert first(daily, 3) == ["2026-03-28 12:00", "2026-03-29 12:00", "2026-03-30 12:00"]


def test_the_time_of_the_day_may_stand_in_the_text() -> None:
    monthly = calendar("1 month 09:30", "Europe/Berlin", anchor_at=utc("2026-01-15T07:00"))

    assert first(monthly, 3) == ["2026-01-15 09:30", "2026-02-15 09:30", "2026-03-15 09:30"]
    assert following(calendar("2 days 09:30:15"), utc("2026-01-01")) == utc("2026-01-02T09:30:15")


def test_nothing_is_due_before_the_anchor() -> None:
    monthly = calendar("1 month 09:30", anchor_at=utc("2026-01-15T12:00"))

    assert first(monthly, 1) == ["2026-02-15 09:30"]


def test_the_day_of_the_anchor_is_that_of_its_zone() -> None:
    weekly = calendar("2 weeks 08:00", "Pacific/Auckland", anchor_at=utc("2026-06-30T20:00"))

    assert first(weekly, 2) == ["2026-07-01 08:00", "2026-07-15 08:00"]


def test_a_month_without_the_day_has_its_last_day_and_the_next_one_the_day_again() -> None:
    monthly = calendar("1 month 12:00", anchor_at=utc("2028-01-31"))

    assert [one[:10] for one in first(monthly, 5)] == [
        "2028-01-31",
        "2028-02-29",
        "2028-03-31",
        "2028-04-30",
        "2028-05-31",
    ]


def test_a_leap_day_is_the_28th_in_other_years() -> None:
    yearly = calendar("1 year", anchor_at=utc("2028-02-29T06:00"))

    assert [one[:10] for one in first(yearly, 5)] == [
        "2028-02-29",
        "2029-02-28",
        "2030-02-28",
        "2031-02-28",
        "2032-02-29",
    ]


@given(months=st.integers(1, 40), day=st.integers(1, 31), after=moments)
@examples(200)
def test_a_calendar_interval_never_drifts(months: int, day: int, after: datetime) -> None:
    anchor = utc(f"2019-01-{day:02}T06:00")

    found = following(calendar(f"{months} months", anchor_at=anchor), after)

    assert found is not None
    since_anchor = 12 * (found.year - anchor.year) + found.month - anchor.month
    assert since_anchor % months == 0
    assert found.day == day or (found.day < day and (found + timedelta(days=1)).day == 1)
    assert after < found <= after + timedelta(days=31 * months)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1 hour",
        "0 days",
        "month",
        "1 month 9:30",
        "1 month 24:00",
        "1 month 10:60",
        "1 month 2 days",
        "51 years",
    ],
)
def test_what_is_no_calendar_interval_is_refused(text: str) -> None:
    with pytest.raises(ScheduleInvalid, match="calendar interval|not between|not a time of the day"):
        check(calendar(text))


# --- once -------------------------------------------------------------------------------------------------------------


def every(timing: Timing) -> list[datetime]:
    return list(between(timing, utc("1970-01-01"), LATEST))


def test_a_moment_without_offset_is_local_to_the_zone() -> None:
    assert every(once("2026-12-24T18:00", "Europe/Berlin")) == [utc("2026-12-24T17:00")]


def test_a_moment_with_an_offset_is_what_it_says() -> None:
    assert every(once("2026-12-24T18:00+05:30", "Europe/Berlin")) == [utc("2026-12-24T12:30")]
    assert every(once("2026-12-24 18:00:59.9Z", "Europe/Berlin")) == [utc("2026-12-24T18:00:59")]


def test_a_moment_that_does_not_exist_is_the_next_or_none() -> None:
    moment = once("2027-03-28T02:30", "Europe/Berlin")

    assert every(moment) == [utc("2027-03-28T01:00")]
    with pytest.raises(ScheduleInvalid, match='"2027-03-28T02:30" is never due in Europe/Berlin, whose clock jumps'):
        check(once("2027-03-28T02:30", "Europe/Berlin", gap=Gap.SKIP))


def test_a_moment_that_comes_twice_is_due_twice_if_so_wished() -> None:
    first, second = utc("2026-10-25T00:30"), utc("2026-10-25T01:30")

    assert every(once("2026-10-25T02:30", "Europe/Berlin")) == [first]
    assert every(once("2026-10-25T02:30", "Europe/Berlin", fold=Fold.BOTH)) == [first, second]


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01T00:00", "25.12.2026", "1969-12-31T23:00", "9000-01-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ScheduleInvalid, match="is not a date and time such as|does not lie in the years"):
        check(once(text))
