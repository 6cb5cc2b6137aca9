"""An independent judge: croniter reads the same texts, and finds the same instants wherever both define them.

They do in UTC, and in other zones while the clock does not jump: what to do then is a policy, and croniter has none.
A range from a value to itself is the whole cycle to croniter and that one value to cron and to us, so it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import assume, given
from hypothesis import strategies as st

from scheduler.instants import LATEST, between
from tests.unit.scheduler.timings import DAY, ZONES, Cron, cron, crons, examples, jumps, moments, timeout, utc

pytestmark = timeout

judged = crons.filter(lambda one: not re.search(r"\b(\w+)-\1\b", one.text))


def theirs(text: str, after: datetime, zone: str = "UTC") -> Iterator[datetime]:
    found = croniter(text, after.astimezone(ZoneInfo(zone)), ret_type=datetime)
    return (one.astimezone(UTC) for one in found)


def ours(text: str, after: datetime, zone: str = "UTC") -> Iterator[datetime]:
    return between(cron(text, zone), after, LATEST)


@given(one=judged, after=moments)
@examples(100)
def test_croniter_finds_the_same_instants_in_utc(one: Cron, after: datetime) -> None:
    assert list(islice(ours(one.text, after), 20)) == list(islice(theirs(one.text, after), 20))


@given(one=judged, zone=st.sampled_from(ZONES[1:]), after=moments)
@examples(100)
def test_croniter_finds_the_same_instants_in_a_zone_while_its_clock_does_not_jump(
    one: Cron, zone: str, after: datetime
) -> None:
    assume(not any(jump - 2 * DAY <= after <= jump + DAY for jump in jumps(zone)))
    until = min((jump for jump in jumps(zone) if jump > after), default=after + 90 * DAY) - DAY
    found = [list(islice(takewhile(lambda at: at <= until, of(one.text, after, zone)), 20)) for of in (ours, theirs)]

    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("text", "to_croniter"),
    [
        ("@hourly", "@hourly"),
        ("@daily", "@daily"),
        ("@midnight", "@midnight"),
        ("@weekly", "@weekly"),
        ("@monthly", "@monthly"),
        ("@yearly", "@yearly"),
        ("@annually", "@annually"),
        ("0 9 L * *", "0 9 L * *"),
        ("0 9 * * mon#2", "0 9 * * mon#2"),
        ("0 9 * * 5#5", "0 9 * * fri#5"),
        ("0 9 * * fri#L", "0 9 * * L5"),
        ("0 9 29 2 *", "0 9 29 2 *"),
        ("0 9 31 * *", "0 9 31 * *"),
        ("0 9 */10 * *", "0 9 */10 * *"),
        ("0 9 */10 * mon", "0 9 */10 * mon"),
        ("0 9 13 * 0-6", "0 9 13 * 0-6"),
        ("0 9 * * 5-7", "0 9 * * 5-7"),
        ("0 9 * * sat-mon", "0 9 * * sat-mon"),
        ("0 9 * * 7,3", "0 9 * * 0,3"),
        ("7/20 9/6 * * *", "7/20 9/6 * * *"),
    ],
)
def test_croniter_reads_these_texts_as_we_do(text: str, to_croniter: str) -> None:
    after = utc("2025-12-30T12:34:56")

    assert list(islice(ours(text, after), 30)) == list(islice(theirs(to_croniter, after), 30))
