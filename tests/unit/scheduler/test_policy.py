"""What is to be fired, and what was missed, from a schedule's row and the time it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.store.schedules import ScheduleRow
from scheduler.due import timing_of
from scheduler.instants import between
from scheduler.policy import MOST, DueNow, due_now
from tests.architecture.tree import doc, table_rows

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=seconds)


def schedule(*, done: float = 0, **values: Any) -> ScheduleRow:
    """One that is due every minute, and counts from midnight."""
    row: dict[str, Any] = dict.fromkeys(ScheduleRow.__slots__)
    row |= {
        "name": "report",
        "state": "active",
        "kind": "interval",
        "expression": "60s",
        "timezone": "UTC",
        "actor": "report",
    }
    row |= {"missed": "once", "grace_seconds": 15, "gap": "next", "fold": "first", "anchor_at": MIDNIGHT}
    return ScheduleRow(**(row | {"done_until": at(done)} | values))


def decided(row: ScheduleRow, now: datetime) -> DueNow | None:
    return due_now(row, timing_of(row), now)


def minutes(*numbers: float) -> tuple[datetime, ...]:
    return tuple(at(60 * number) for number in numbers)


@pytest.mark.parametrize(
    ("policy", "now", "fired", "missed"),
    [
        ({}, 59.9, (), None),
        ({}, 60, (1,), None),
        ({}, 75, (1,), None),  # exactly as late as it may be
        ({"missed": "skip"}, 75, (1,), None),
        ({"missed": "skip"}, 75.1, (), (1, 1)),
        ({"missed": "once"}, 75.1, (1,), None),
        ({"missed": "all"}, 75.1, (1,), None),
        ({"missed": "skip"}, 605, (10,), (9, 9)),
        ({"missed": "once"}, 605, (9, 10), (8, 8)),
        ({"missed": "all"}, 605, tuple(range(1, 11)), None),
        ({"missed": "skip"}, 630, (), (10, 10)),
        ({"missed": "once"}, 630, (10,), (9, 9)),
        ({"missed": "all", "max_age_seconds": 150}, 630, (8, 9, 10), (7, 7)),
        ({"missed": "all", "max_age_seconds": 0}, 605, (10,), (9, 9)),  # those that are on time, all the same
        ({"missed": "all", "max_age_seconds": 10_000}, 130, (1, 2), None),
        ({"missed": "skip", "grace_seconds": 86_400}, 605, tuple(range(1, 11)), None),
        ({"missed": "skip", "done": 300}, 605, (10,), (9, 4)),
        ({"missed": "once", "ends_at": at(150)}, 605, (2,), (1, 1)),
        ({"missed": "all", "starts_at": at(400)}, 605, (7, 8, 9, 10), None),
    ],
)  # fmt: skip
def test_what_is_fired_and_what_was_missed(
    policy: dict[str, Any], now: float, fired: Sequence[int], missed: tuple[int, int] | None
) -> None:
    found = decided(schedule(**policy), at(now))

    if not fired and missed is None:
        assert found is None
        return
    assert found is not None
    assert found.instants == minutes(*fired)
    assert (found.missed, found.missed_count) == ((None, 0) if missed is None else (at(60 * missed[0]), missed[1]))
    assert found.until == at(60 * (fired[-1] if fired else missed[0]))  # type: ignore[index]


def test_a_statement_makes_so_many_tasks_at_most_and_the_rest_comes_next() -> None:
    first = decided(schedule(missed="all"), at(60 * 250))
    assert first is not None
    assert first.instants == minutes(*range(1, MOST + 1))

    second = decided(schedule(missed="all", done_until=first.until), at(60 * 250))

    assert second is not None
    assert second.instants[0] == at(60 * (MOST + 1))


def test_a_year_of_missed_seconds_is_passed_over_in_no_time() -> None:
    found = decided(schedule(expression="1s", missed="once", grace_seconds=1), at(365 * 86_400 + 0.5))

    assert found is not None
    assert [instant - at(365 * 86_400) for instant in found.instants] == [timedelta(seconds=-1), timedelta(0)]
    assert found.missed_count == 365 * 86_400 - 2


def walked(row: ScheduleRow, naps: Sequence[float]) -> list[tuple[datetime, DueNow]]:
    """Come again after each nap, and do what is due as often as there is something."""
    now, done = MIDNIGHT, []
    for nap in naps:
        now += timedelta(seconds=nap)
        for _ in range(1000):
            found = due_now(row, timing_of(row), now)
            if found is None:
                break
            done.append((now, found))
            row = schedule_after(row, found)
    return done


def schedule_after(row: ScheduleRow, found: DueNow) -> ScheduleRow:
    return ScheduleRow(**{name: getattr(row, name) for name in ScheduleRow.__slots__} | {"done_until": found.until})


NAPS = st.lists(st.floats(0.001, 20) | st.floats(1, 200) | st.just(60.0), min_size=1, max_size=10)
ROWS = st.builds(
    schedule,
    expression=st.sampled_from(["1s", "7s", "60s", "5m"]),
    missed=st.sampled_from(["skip", "once", "all"]),
    grace_seconds=st.integers(1, 120),
    max_age_seconds=st.none() | st.integers(0, 600),
)


@given(ROWS, NAPS)
@examples(deadline=None, max_examples=60)
def test_whenever_it_sleeps_each_instant_is_fired_once_or_missed_as_the_policy_says(
    row: ScheduleRow, naps: list[float]
) -> None:
    done = walked(row, naps)
    end = MIDNIGHT + sum((timedelta(seconds=nap) for nap in naps), timedelta())
    due = list(between(timing_of(row), MIDNIGHT, end))
    fired = [(instant, now) for now, found in done for instant in found.instants]
    late = timedelta(seconds=row.grace_seconds)

    assert [instant for instant, _ in fired] == sorted({instant for instant, _ in fired}), "none twice, and in order"
    assert {instant for instant, _ in fired} <= set(due)
    assert all(instant <= now for instant, now in fired), "none before it is due"
    assert len(fired) + sum(found.missed_count for _, found in done) == len(due), "nothing is forgotten"
    if row.missed == "all" and row.max_age_seconds is None:
        assert [instant for instant, _ in fired] == due
    elif row.missed == "all":
        allowed = max(late, timedelta(seconds=row.max_age_seconds or 0))
        assert all(now - instant <= allowed for instant, now in fired)
    elif row.missed == "skip":
        assert all(now - instant <= late for instant, now in fired)
    else:  # of those that are late only the last, once for each time that it woke up
        made_up = [now for instant, now in fired if now - instant > late]
        assert len(made_up) == len(set(made_up))
    assert_only_the_last_are_fired(row, done)


def assert_only_the_last_are_fired(row: ScheduleRow, done: list[tuple[datetime, DueNow]]) -> None:
    """What was missed lies before what is fired, and nothing on time was missed."""
    for now, found in done:
        if found.missed is not None:
            assert now - found.missed > timedelta(seconds=row.grace_seconds)
            assert all(found.missed < instant for instant in found.instants)


def test_the_example_of_the_reference_is_true() -> None:
    """A schedule of every minute that could not be fired for almost ten."""
    section = doc("reference/schedules.md").partition("## What was missed")[2]
    rows = [row for row in table_rows(section) if re.search(r"\d\d:\d\d", row[1])]
    assert len(rows) == 4

    for policy, instants, noted in rows:
        missed, age = re.fullmatch(r"`(\w+)`(?:, `max_age_seconds=(\d+)`)?", policy).groups()  # type: ignore[union-attr]
        row = schedule(missed=missed, max_age_seconds=int(age) if age else None, done=30)
        found = decided(row, at(605))
        assert found is not None
        times = re.findall(r"\d\d:\d\d", instants)
        assert (times[0], times[-1]) == (shown(found.instants[0]), shown(found.instants[-1]))
        assert len(found.instants) + found.missed_count == 10
        assert noted == (f"{found.missed_count}, up to {shown(found.missed)}" if found.missed else "none")


def shown(instant: datetime) -> str:
    """As on the clock of somebody for whom midnight is noon."""
    return f"{instant + timedelta(hours=12):%H:%M}"
