"""Cron texts: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise

import pytest

from pipeline.errors import ScheduleInvalid
from scheduler.instants import between, default_fold, following
from scheduler.timing import Fold, Kind, Timing, check
from tests.unit.scheduler.timings import cron, utc

YEAR = utc("2025-12-31"), utc("2026-12-31")


def dates(text: str, after: datetime = YEAR[0], until: datetime = YEAR[1]) -> list[date]:
    return [instant.date() for instant in between(cron(text), after, until)]


def same(text: str, other: str) -> bool:
    return list(islice(between(cron(text), *YEAR), 50)) == list(islice(between(cron(other), *YEAR), 50))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("@annually", "0 0 1 1 *"),
        ("  5\t4 * *   * ", "5 4 * * *"),
        ("0 0 * JAN,Dec MON-fri", "0 0 * 1,12 1-5"),
        ("10/20 * * * *", "10,30,50 * * * *"),
        ("10-40/15 * * * *", "10,25,40 * * * *"),
        ("59-59 23/5 * * *", "59 23 * * *"),
        ("*,5 0 * * *", "* 0 * * *"),
        ("0 0 * * */3", "0 0 * * sun,wed,sat"),
    ],
)
def test_a_text_means_the_same_as_its_plain_form(text: str, meaning: str) -> None:
    assert same(text, meaning)


@pytest.mark.parametrize(
    ("text", "weekdays"),
    [
        ("0", "sun"),
        ("7", "sun"),
        ("1", "mon"),
        ("6", "sat"),
        ("1-5", "mon tue wed thu fri"),
        ("5-7", "fri sat sun"),
        ("0-2", "sun mon tue"),
        ("sat-mon", "sat sun mon"),
        ("fri-sun", "fri sat sun"),
        ("6-1", "sat sun mon"),
        ("0-7", "sun mon tue wed thu fri sat"),
        ("sat-tue/2", "sat mon"),
        ("mon,5", "mon fri"),
    ],
)
def test_days_of_the_week_count_from_sunday_as_in_cron(text: str, weekdays: str) -> None:
    found = {day.strftime("%a").lower() for day in dates(f"0 0 * * {text}")}

    assert found == set(weekdays.split())


def test_of_two_restricted_days_either_matches() -> None:
    found = dates("0 0 13 * fri")

    assert found == [day for day in dates("0 0 * * *") if day.day == 13 or day.strftime("%a") == "Fri"]


def test_a_field_with_a_step_restricts_too() -> None:
    found = dates("0 0 */10 * mon")

    assert found == [day for day in dates("0 0 * * *") if day.day in {1, 11, 21, 31} or day.strftime("%a") == "Mon"]


def test_a_star_restricts_nothing() -> None:
    assert {day.day for day in dates("0 0 13 * *")} == {13}
    assert {day.strftime("%a") for day in dates("0 0 * * fri")} == {"Fri"}


def test_a_month_without_the_day_is_left_out() -> None:
    assert [day.month for day in dates("0 0 31 * *")] == [1, 3, 5, 7, 8, 10, 12]


def test_the_last_day_of_the_month_is_l() -> None:
    found = dates("0 0 L * *", utc("2020-01-01"), utc("2040-12-31"))

    assert found == [
        date(year, month, monthrange(year, month)[1]) for year in range(2020, 2041) for month in range(1, 13)
    ]


def test_the_last_business_day_of_the_month_is_lw() -> None:
    def last_business_day(year: int, month: int) -> date:
        day = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        while day.strftime("%a") in {"Sat", "Sun"}:
            day -= timedelta(days=1)
        return day

    found = dates("0 0 LW * *", utc("2020-01-01"), utc("2040-12-31T23:59"))

    assert found == [last_business_day(year, month) for year in range(2020, 2041) for month in range(1, 13)]


def test_lw_and_l_stand_in_lists_and_beside_months() -> None:
    assert dates("0 0 1,lw feb,may *") == [
        date(2026, 2, 1),
        date(2026, 2, 27),
        date(2026, 5, 1),
        date(2026, 5, 29),
    ]


def test_a_weekday_has_a_position_in_its_month() -> None:
    assert dates("0 0 * 1-3 mon#2") == [date(2026, 1, 12), date(2026, 2, 9), date(2026, 3, 9)]
    assert dates("0 0 * 1-3 fri#L") == [date(2026, 1, 30), date(2026, 2, 27), date(2026, 3, 27)]
    assert dates("0 0 * * 7#5") == [date(2026, 3, 29), date(2026, 5, 31), date(2026, 8, 30), date(2026, 11, 29)]


def test_leap_days_come_in_leap_years() -> None:
    assert [day.year for day in dates("0 0 29 2 *", utc("2090-01-01"), utc("2109-01-01"))] == [2092, 2096, 2104, 2108]


def test_the_rarest_text_is_found() -> None:
    """A leap day that is a Monday; 2100 is no leap year, so there are forty years between these two."""
    assert following(cron("0 0 * 2 mon#5"), utc("2073-01-01")) == utc("2112-02-29")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 25 * * *", "hour: 25 is above 23"),
        ("60 * * * *", "minute: 60 is above 59"),
        ("0 0 0 * *", "day of month: 0 is below 1"),
        ("0 0 32 * *", "day of month: 32 is above 31"),
        ("0 0 * 13 *", "month: 13 is above 12"),
        ("0 0 * * 8", "day of week: 8 is above 7"),
        ("x * * * *", 'minute: "x" is not a number'),
        ("-5 * * * *", 'minute: "" is not a number'),
        ("5, * * * *", 'minute: "" is not a number'),
        ("1.5 * * * *", 'minute: "1.5" is not a number'),
        ("٣ * * * *", 'minute: "٣" is not a number'),
        ("0 0 * foo *", 'month: "foo" is neither a number nor one of jan, feb, '),
        ("0 0 * * monday", 'day of week: "monday" is neither a number nor one of sun, mon, '),
        ("0 0 mon * *", 'day of month: "mon" is not a number'),
        ("0 0 * * L", 'day of week: "l" is neither'),
        ("0 22-2 * * *", "hour: 22-2 runs backwards; write 22-23,0-2"),
        ("0 0 * nov-feb *", "month: nov-feb runs backwards; write nov-12,1-feb"),
        ("*/0 * * * *", 'minute: the step "0" is not a number above 0'),
        ("*/ * * * *", 'minute: the step "" is not a number above 0'),
        ("*/90 * * * *", "minute: a step of 90 leads out of 0-59; what counts on is an interval"),
        ("0 0 * * mon#6", 'day of week: "mon#6" has no position such as mon#1'),
        ("0 0 * * foo#1", 'day of week: "foo" is neither'),
        ("0 0 30 2 *", "day of month: 30 is never due, since the month has at most 29 days; the last one is L"),
        ("0 0 31 4,jun,9,11 *", "day of month: 31 is never due, since the month has at most 30 days"),
        ("* * * *", '"* * * *" has 4 fields; a cron text has five: minute, hour, day of month, month, day of week'),
        ("0 * * * * *", '"0 * * * * *" has 6 fields'),
        ("", '"" has 0 fields'),
        ("@reboot", '"@reboot" is none of @hourly, '),
        ("0 " + 400 * "0," + "0 * * *", "it has more than 500 characters"),
    ],
)
def test_a_text_that_means_nothing_is_refused_and_the_field_named(text: str, reason: str) -> None:
    with pytest.raises(ScheduleInvalid) as raised:
        check(cron(text))

    assert raised.value.field == "expression"
    assert raised.value.reason.startswith(reason)
    assert str(raised.value) == f"The schedule is not valid: expression: {raised.value.reason}"


def test_the_30th_of_february_may_stand_beside_days_that_there_are() -> None:
    assert dates("0 0 30,10 2 *") == [date(2026, 2, 10)]
    assert dates("0 0 30 2 sun") == [date(2026, 2, day) for day in (1, 8, 15, 22)]
    assert dates("0 0 31 2-3 *") == [date(2026, 3, 31)]


@pytest.mark.parametrize(
    ("text", "fold"),
    [
        ("*/15 * * * *", Fold.BOTH),
        ("0 * * * *", Fold.BOTH),
        ("0 */2 * * *", Fold.BOTH),
        ("0 0-6 * * *", Fold.BOTH),
        ("*/10 2 * * *", Fold.BOTH),
        ("@hourly", Fold.BOTH),
        ("0 2 * * *", Fold.FIRST),
        ("0,30 1,2 * * mon-fri", Fold.FIRST),
        ("@daily", Fold.FIRST),
    ],
)
def test_what_comes_again_and_again_comes_in_a_repeated_hour_too(text: str, fold: Fold) -> None:
    assert default_fold(Kind.CRON, text) is fold


def test_what_is_no_cron_text_comes_once_in_a_repeated_hour() -> None:
    assert default_fold(Kind.CALENDAR, "1 day 02:30") is Fold.FIRST


def test_there_is_no_hole_in_the_night_in_which_the_clock_is_set_back() -> None:
    text = "*/15 * * * *"
    timing = Timing(
        Kind.CRON, text, "Europe/Berlin", fold=default_fold(Kind.CRON, text), anchor_at=datetime(2026, 1, 1, tzinfo=UTC)
    )

    found = list(between(timing, utc("2026-10-24T22:00"), utc("2026-10-25T04:00")))

    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}
