"""Time zones by name, and the jumps of their clocks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.errors import ScheduleInvalid
from scheduler import zones
from tests.unit.scheduler import timings
from tests.unit.scheduler.timings import BEGIN, END, HOUR, ZONES, utc


@pytest.mark.parametrize("name", ZONES)
def test_every_jump_is_found_to_the_second(name: str) -> None:
    found = zones.jumps(zones.zone(name), BEGIN, END)

    assert tuple(jump.at for jump in found) == timings.jumps(name)


def test_a_jump_knows_both_offsets_and_until_when_the_clock_repeats_itself() -> None:
    forward, back = zones.jumps(zones.zone("Europe/Berlin"), utc("2026-01-01"), utc("2026-12-31"))

    assert (forward.before, forward.after, forward.repeats_until) == (1 * HOUR, 2 * HOUR, forward.at)
    assert (back.before, back.after, back.repeats_until) == (2 * HOUR, 1 * HOUR, back.at + HOUR)


def test_jumps_are_looked_for_after_a_moment_and_up_to_another() -> None:
    berlin, jump = zones.zone("Europe/Berlin"), utc("2026-03-29T01:00")

    assert list(zones.jumps(berlin, jump, jump + HOUR)) == []
    assert [one.at for one in zones.jumps(berlin, jump - timedelta(seconds=1), jump)] == [jump]


def test_a_jump_over_a_whole_day_is_found() -> None:
    """Samoa left out a day at the end of 2011, Kiritimati another one at the end of 1994."""
    (apia,) = zones.jumps(zones.zone("Pacific/Apia"), utc("2011-12-01"), utc("2012-01-31"))
    (kiritimati,) = zones.jumps(zones.zone("Pacific/Kiritimati"), utc("1994-12-01"), utc("1995-01-31"))

    assert apia.after - apia.before == kiritimati.after - kiritimati.before == 24 * HOUR
    assert (apia.at, kiritimati.at) == (utc("2011-12-30T10:00"), utc("1994-12-31T10:00"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Berlim", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Europe", "did you mean"),
        ("Mars/Olympus_Mons", "write one such as Europe/Berlin"),
        ("../../etc/passwd", "write one such as Europe/Berlin"),
        ("", "write one such as Europe/Berlin"),
        ("a\0b", "write one such as Europe/Berlin"),
        ("localtime", "write one such as Europe/Berlin"),
        ("right/Europe/Berlin", "did you mean Europe/Berlin?"),
    ],
)
def test_a_zone_that_there_is_not_is_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ScheduleInvalid) as raised:
        zones.zone(name)

    assert raised.value.field == "timezone"
    assert raised.value.reason.startswith(f'there is no time zone "{name}"; {hint}')
