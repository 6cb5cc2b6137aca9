"""What holds for the due instants of any schedule, wherever it is looked at from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.instants import LATEST, between, following, latest, preview
from scheduler.timing import Fold, Gap, Timing, check
from tests.unit.scheduler.timings import (
    ANCHOR,
    DAY,
    END,
    HOUR,
    MINUTE,
    ZONES,
    Cron,
    calendar,
    cron,
    crons,
    examples,
    folds,
    gaps,
    interval,
    jumps,
    minute_by_minute,
    moments,
    once,
    timeout,
    timings,
    utc,
)

pytestmark = timeout

#: Moments in the day around a jump of some clock, where everything that can go wrong does.
near_jumps = st.builds(
    lambda jump, seconds: jump + timedelta(seconds=seconds),
    st.sampled_from([jump for zone in ZONES for jump in jumps(zone)]),
    st.integers(-86400, 86400),
)
anywhere = moments | near_jumps


def some(timing: Timing, after: datetime, n: int) -> list[datetime]:
    return list(islice(between(timing, after, LATEST), n))


@given(timing=timings, after=anywhere)
@examples(150)
def test_instants_strictly_increase_and_are_whole_seconds_of_utc(timing: Timing, after: datetime) -> None:
    found = some(timing, after, 40)

    assert all(earlier < later for earlier, later in pairwise([after, *found]))
    assert {(one.tzinfo, one.microsecond) for one in found} == {(UTC, 0)}


@given(one=crons, zone=st.sampled_from(ZONES), gap=gaps, fold=folds, data=st.data())
@examples(100)
def test_a_cron_text_is_due_when_looking_at_each_minute_says_so(
    one: Cron, zone: str, gap: Gap, fold: Fold, data: st.DataObject
) -> None:
    near = st.sampled_from(jumps(zone)) if jumps(zone) else moments
    around = data.draw(near | moments).replace(second=0)
    timing = cron(one.text, zone, gap=gap, fold=fold)
    after, until = around - 6 * HOUR, around + 6 * HOUR

    assert list(between(timing, after, until)) == minute_by_minute(one.matches, timing, after, until)


@given(timing=timings, after=anywhere, share=st.floats(0, 1, exclude_max=True))
@examples(150)
def test_the_next_instant_is_the_same_from_anywhere_before_it(timing: Timing, after: datetime, share: float) -> None:
    found = following(timing, after)

    assert found is not None
    somewhere = min(after + share * (found - after), found - timedelta(microseconds=1))
    assert following(timing, somewhere) == found


@given(timing=timings, after=anywhere, zone=st.sampled_from([*ZONES, "Asia/Kathmandu"]))
@examples(60)
def test_the_zone_in_which_a_moment_is_written_does_not_matter(timing: Timing, after: datetime, zone: str) -> None:
    assert following(timing, after.astimezone(ZoneInfo(zone))) == following(timing, after)


def test_start_and_end_may_be_written_in_a_zone_whose_clock_repeats_itself() -> None:
    """Python compares two moments of one zone by what its clock shows, and takes 2:45 for later than the second 2:15."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = utc("2026-10-25T00:45").astimezone(berlin), utc("2026-10-25T01:15").astimezone(berlin)
    timing = cron("*/15 * * * *", starts_at=first, ends_at=second)
    counted = interval("15m", anchor_at=second, starts_at=first, ends_at=second + DAY)

    check(timing)
    assert list(between(timing, utc("2026-01-01"), LATEST)) == [
        utc("2026-10-25T00:45"),
        utc("2026-10-25T01:00"),
        utc("2026-10-25T01:15"),
    ]
    assert following(counted, first) == utc("2026-10-25T01:15")
    assert latest(timing, first - DAY, second + DAY) == (utc("2026-10-25T01:15"), 3)
    assert latest(replace(counted, anchor_at=first, ends_at=first), first - DAY, second) == (utc("2026-10-25T00:45"), 1)


@given(timing=timings, after=anywhere, n=st.integers(1, 30), more=st.integers(0, 100))
@examples(100)
def test_the_last_of_many_and_their_number_are_those_of_all(timing: Timing, after: datetime, n: int, more: int) -> None:
    until = some(timing, after, n)[-1] + timedelta(seconds=more)
    found = list(between(timing, after, until))

    assert latest(timing, after, until) == (found[-1], len(found))


@pytest.mark.parametrize("fold", Fold)
@pytest.mark.parametrize("gap", Gap)
@pytest.mark.parametrize("text", ["*/7 * * * *", "30 2 * * *", "0 */3 * * *"])
def test_missed_instants_are_counted_over_jumps(text: str, gap: Gap, fold: Fold) -> None:
    for zone in ZONES[1:]:
        for jump in jumps(zone)[:2]:
            timing = cron(text, zone, gap=gap, fold=fold)
            for minutes in (-45, -1, 0, 1, 29, 45):
                after, until = jump + minutes * MINUTE, jump + 8 * HOUR
                found = list(between(timing, after, until))
                assert latest(timing, after, until) == (max(found, default=None), len(found))


def test_a_million_missed_instants_are_counted_without_visiting_each() -> None:
    """By visiting them this would run into the timeout of tests."""
    begin, end = utc("2000-01-01"), utc("2030-01-01")

    assert latest(interval("1s", anchor_at=begin), begin, end) == (end, int((end - begin).total_seconds()))
    assert latest(cron("* * * * *"), begin, end) == (end, (end - begin) // MINUTE)


def test_where_nothing_is_due_nothing_is_the_last() -> None:
    assert latest(cron("0 0 1 1 *"), utc("2026-02-01"), utc("2026-03-01")) == (None, 0)
    assert latest(interval("1d"), utc("2018-01-01"), ANCHOR - MINUTE) == (None, 0)
    assert latest(cron("* * * * *"), utc("2026-02-01"), utc("2026-01-01")) == (None, 0)


def test_a_rare_instant_is_the_last_however_long_ago() -> None:
    assert latest(cron("0 0 29 2 *"), utc("2020-01-01"), utc("2031-06-01")) == (utc("2028-02-29"), 3)
    assert latest(calendar("10 years", anchor_at=utc("2000-05-01")), utc("1999-01-01"), utc("2029-01-01")) == (
        utc("2020-05-01"),
        3,
    )


@given(timing=timings, after=anywhere)
@examples(60)
def test_a_preview_shows_what_will_be_due(timing: Timing, after: datetime) -> None:
    shown = preview(timing, after, 10)

    assert [one.due_at for one in shown] == some(timing, after, 10)
    assert all(one.local.astimezone(UTC) == one.due_at for one in shown)
    assert all(one.utc_offset == one.local.utcoffset() for one in shown)
    assert {str(one.local.tzinfo) for one in shown} == {timing.timezone}


def test_a_preview_has_no_more_than_there_is() -> None:
    assert len(preview(once("2026-12-24T18:00"), utc("2026-01-01"), 5)) == 1


# --- the limits of a schedule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda **x: cron("0 * * * *", **x), lambda **x: interval("1h", anchor_at=utc("2020-01-01"), **x)]
)
def test_start_and_end_belong_to_the_schedule(make: type[Timing]) -> None:
    timing = make(starts_at=utc("2026-01-01T10:00"), ends_at=utc("2026-01-01T12:00"))

    assert [one.hour for one in between(timing, utc("2025-01-01"), LATEST)] == [10, 11, 12]
    assert latest(timing, utc("2025-01-01"), END) == (utc("2026-01-01T12:00"), 3)
    assert following(timing, utc("2026-01-01T12:00")) is None


def test_start_and_end_need_not_be_whole_seconds_or_utc() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    begin = datetime(2026, 1, 1, 15, 30, 0, 1, tzinfo=india)
    timing = cron("* * * * *", starts_at=begin, ends_at=begin + 3 * MINUTE)

    assert [one.minute for one in between(timing, utc("2025-01-01"), LATEST)] == [1, 2, 3]


def test_an_instant_is_not_due_again_after_itself() -> None:
    """Neither at the same second with a fraction, nor because the fraction was rounded."""
    due_at = following(cron("* * * * *"), utc("2026-01-01T00:00:00.000001"))

    assert due_at == utc("2026-01-01T00:01")
    assert following(cron("* * * * *"), due_at - timedelta(microseconds=1)) == due_at
    assert following(cron("* * * * *"), due_at + timedelta(microseconds=1)) == utc("2026-01-01T00:02")


@pytest.mark.parametrize("zone", [*ZONES, "America/New_York", "Pacific/Apia"])
@pytest.mark.parametrize(
    "make",
    [
        lambda z: cron("0 0 * * *", z),
        lambda z: interval("10d", z),
        lambda z: calendar("1 month", z),
        lambda z: once("2030-01-01", z),
    ],
)
def test_any_moment_can_be_asked_about(make: type[Timing], zone: str) -> None:
    timing = make(zone)

    assert following(timing, datetime.min.replace(tzinfo=UTC)) is not None
    assert following(timing, datetime.max.replace(tzinfo=UTC)) is None
    assert latest(timing, datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)) == (None, 0)


def test_a_text_that_the_clock_always_jumps_over_ends_the_search() -> None:
    never = cron("30 2 * 3 sun#L", "Europe/Berlin", gap=Gap.SKIP)

    assert following(never, utc("2026-01-01")) is None
    assert preview(never, utc("2026-01-01"), 3) == []
