"""What becomes of local times that do not exist, and of those that come twice."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from scheduler.instants import Mark, between, following, preview
from scheduler.timing import Fold, Gap, Timing
from tests.unit.scheduler.timings import (
    HOUR,
    ZONES,
    Cron,
    calendar,
    cron,
    interval,
    jumps,
    minute_by_minute,
    utc,
)

POLICIES = [(gap, fold) for gap in Gap for fold in Fold]
EVERY_DAY = (None, frozenset(range(1, 13)), None)
CRONS = [
    Cron("*/15 * * * *", frozenset(range(0, 60, 15)), frozenset(range(24)), *EVERY_DAY),
    Cron("30 2 * * *", frozenset({30}), frozenset({2}), *EVERY_DAY),
    Cron("0,10,59 1-3 * * *", frozenset({0, 10, 59}), frozenset({1, 2, 3}), *EVERY_DAY),
]


def local(timing: Timing, after: str, n: int) -> list[str]:
    return [f"{one.local:%d %H:%M %z}" + (f" {one.mark}" if one.mark else "") for one in preview(timing, utc(after), n)]


def test_each_zone_has_the_jumps_that_it_should_have() -> None:
    assert [len(jumps(zone)) for zone in ZONES] == [0, 42, 42, 42]


@pytest.mark.parametrize(("gap", "fold"), POLICIES)
@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "UTC"])
def test_each_policy_holds_at_every_jump_from_2020_to_2040(zone: str, gap: Gap, fold: Fold) -> None:
    for jump in jumps(zone):
        for one in CRONS:
            timing, after, until = cron(one.text, zone, gap=gap, fold=fold), jump - 1.5 * HOUR, jump + 2 * HOUR
            assert list(between(timing, after, until)) == minute_by_minute(one.matches, timing, after, until), jump


def test_what_a_gap_leaves_out_is_due_once_when_it_ends() -> None:
    assert local(cron("*/20 2 * * *", "Europe/Berlin"), "2026-03-28T22:00", 4) == [
        "29 03:00 +0200 gap",
        "30 02:00 +0200",
        "30 02:20 +0200",
        "30 02:40 +0200",
    ]


def test_what_is_due_when_the_gap_ends_is_not_due_twice() -> None:
    assert local(cron("30 2,3 * * *", "Europe/Berlin"), "2026-03-28T22:00", 2) == [
        "29 03:00 +0200 gap",
        "29 03:30 +0200",
    ]
    assert local(cron("*/30 2,3 * * *", "Europe/Berlin"), "2026-03-28T22:00", 2) == ["29 03:00 +0200", "29 03:30 +0200"]


def test_what_a_gap_leaves_out_may_be_left_out() -> None:
    timing = cron("30 2 * * *", "Europe/Berlin", gap=Gap.SKIP)

    assert local(timing, "2026-03-27T22:00", 2) == ["28 02:30 +0100", "30 02:30 +0200"]


def test_what_comes_twice_is_due_the_first_time() -> None:
    assert local(cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T22:00", 2) == [
        "25 02:30 +0200 fold first",
        "26 02:30 +0100",
    ]


def test_what_comes_twice_may_be_due_both_times() -> None:
    timing = cron("*/30 2 * * *", "Europe/Berlin", fold=Fold.BOTH)

    assert local(timing, "2026-10-24T22:00", 5) == [
        "25 02:00 +0200 fold first",
        "25 02:30 +0200 fold first",
        "25 02:00 +0100 fold second",
        "25 02:30 +0100 fold second",
        "26 02:00 +0100",
    ]


def test_half_an_hour_may_be_left_out_or_repeated() -> None:
    """Lord Howe's clock jumps from 2:00 to 2:30 in October, and from 2:00 back to 1:30 in April."""
    zone = "Australia/Lord_Howe"

    assert local(cron("15 2 * * *", zone), "2026-10-03T12:00", 2) == ["04 02:30 +1100 gap", "05 02:15 +1100"]
    assert local(cron("45 1 * * *", zone, fold=Fold.BOTH), "2026-04-04T12:00", 3) == [
        "05 01:45 +1100 fold first",
        "05 01:45 +1030 fold second",
        "06 01:45 +1030",
    ]


def test_a_whole_day_may_be_left_out() -> None:
    """Samoa went to the other side of the date line: there was no 30 December 2011."""
    assert local(cron("0 9 * * *", "Pacific/Apia"), "2011-12-29T18:00", 3) == [
        "29 09:00 -1000",
        "31 00:00 +1400 gap",
        "31 09:00 +1400",
    ]
    assert local(cron("0 9 30 12 *", "Pacific/Apia", gap=Gap.SKIP), "2011-01-01T00:00", 1) == ["30 09:00 +1400"]
    assert local(calendar("1 day 09:00", "Pacific/Apia", anchor_at=utc("2011-12-28T00:00")), "2011-12-29T20:00", 2) == [
        "31 00:00 +1400 gap",
        "31 09:00 +1400",
    ]


def test_the_end_of_a_day_may_be_repeated() -> None:
    """Clocks in São Paulo went back at midnight, to 23:00 of the day before."""
    assert local(cron("30 23 * * *", "America/Sao_Paulo", fold=Fold.BOTH), "2019-02-16T12:00", 3) == [
        "16 23:30 -0200 fold first",
        "16 23:30 -0300 fold second",
        "17 23:30 -0300",
    ]
    assert local(cron("@daily", "America/Sao_Paulo"), "2018-11-03T12:00", 2) == ["04 01:00 -0200 gap", "05 00:00 -0200"]


@pytest.mark.parametrize("fold", Fold)
@pytest.mark.parametrize("gap", Gap)
@pytest.mark.parametrize("jump", [utc("2026-03-29T01:00"), utc("2026-10-25T01:00")])
def test_it_does_not_matter_from_where_a_jump_is_looked_at(jump: datetime, gap: Gap, fold: Fold) -> None:
    """Also from the second before the jump, from the jump itself, and from within a repetition."""
    for text in ("*/20 * * * *", "30 2 * * *"):
        timing = cron(text, "Europe/Berlin", gap=gap, fold=fold)
        expected = list(between(timing, jump - 3 * HOUR, jump + 48 * HOUR))
        for minutes in range(-150, 150, 5):
            for seconds in (-1, 0, 1):
                moment = jump + timedelta(minutes=minutes, seconds=seconds)
                assert following(timing, moment) == next(one for one in expected if one > moment)


def test_instants_of_an_interval_are_marked_where_the_clock_repeats_itself() -> None:
    timing = interval("30m", "Europe/Berlin", anchor_at=utc("2026-01-01"))

    assert [one.mark for one in preview(timing, utc("2026-10-24T23:30"), 5)] == [
        Mark.FOLD_FIRST,
        Mark.FOLD_FIRST,
        Mark.FOLD_SECOND,
        Mark.FOLD_SECOND,
        None,
    ]
