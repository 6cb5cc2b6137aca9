"""What counts as changed between two looks, and how far a client has followed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from api.live.changes import Position, Told, between, since
from api.live.snapshots import Snapshot
from pipeline.states import TaskState
from pipeline.store.live import Look
from pipeline.store.tasks import TaskRow

NOW = datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
#: hypothesis adds the zone itself.
YEARS = [datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2020, 2200)]
NOTHING: frozenset[int] = frozenset()


def look(*, claims: int = 0, is_complete: bool = True, **lists: set[int]) -> Look:
    names = ("seen", "claimed", "held", "running", "fresh", "due", "reported", "changed", "sweeps")
    return Look(is_complete, NOW, claims, **{name: frozenset(lists.get(name, NOTHING)) for name in names})


def task(number: int = 1, state: TaskState = TaskState.RUNNING, **more: Any) -> Snapshot:
    row = TaskRow(
        task_id=f"task-{number}",
        actor="greet",
        queue="default",
        state=state,
        attempt=0,
        progress=0,
        note="",
        step=None,
        done=None,
        total=None,
        progress_at=None,
        expected_at=None,
        result=None,
        error=None,
        created_at=NOW,
        eta=NOW,
        started_at=None,
        finished_at=None,
        worker_id=None,
        thread=None,
        last_seen_at=None,
        priority=0,
        tags=[],
        entity=None,
        tenant=None,
        correlation_id=None,
        parent_id=None,
        args='["a secret"]',
        kwargs="{}",
        id=number,
        waits_for=None,
    )
    return Snapshot(replace(row, **more))


@given(
    at=some.datetimes(YEARS[0], YEARS[1], timezones=some.just(UTC)),
    claims=some.integers(0, 2**59),
    held=some.integers(0, 2000),
)
def test_a_position_is_read_as_it_was_written_less_microseconds(at: datetime, claims: int, held: int) -> None:
    position = Position(at, claims, held)

    found = Position.parse(str(position))

    assert found == Position(at.replace(microsecond=at.microsecond // 1000 * 1000), claims, held)


@pytest.mark.parametrize("text", ["", "1", "1-2", "1-2-3-4", "-1-2-3", "1-2-x", "٣-1-1", "1-2-3\n", "9" * 14 + "-1-1"])
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"fresh": {7}}),
        ({}, {"due": {7}}),
        ({}, {"changed": {7}}),
        ({"reported": {7}}, {"reported": {7}}),
        ({"held": {7}}, {"held": {7}, "running": {7}}),
        ({"held": {7}}, {}),
        ({}, {"claimed": {7}}),
    ],
    ids=["new", "due", "changed by an operator", "reported again", "begun", "ended", "claimed"],
)
def test_a_task_has_changed_that_is(before: dict[str, set[int]], now: dict[str, set[int]]) -> None:
    assert between(look(**before), look(**now), claims=0).ids == (7,)


@pytest.mark.parametrize("name", ["fresh", "due", "changed", "claimed", "held", "running"])
def test_what_both_looks_saw_has_not_changed(name: str) -> None:
    assert between(look(**{name: {7}}), look(**{name: {7}}), claims=0).ids == ()


def test_a_task_is_named_once() -> None:
    now = look(fresh={7}, due={7}, claimed={7}, reported={7})

    assert between(look(), now, claims=0).ids == (7,)


@pytest.mark.parametrize(
    ("before", "now", "are_all"),
    [
        (look(), look(), True),
        (look(), look(claims=5, seen={4, 5}), True),
        (look(claims=4, seen={4}), look(claims=5, seen={5}), True),
        (look(), look(claims=5, seen={5}), False),
        (look(), look(is_complete=False), False),
        (look(), look(sweeps={1}), False),
        (look(sweeps={1}), look(sweeps={1}), True),
    ],
    ids=[
        "nothing",
        "claims that are there",
        "one gone",
        "one that was never seen",
        "cut off",
        "a sweep",
        "an old sweep",
    ],
)
def test_changes_are_all_unless_something_may_have_been_missed(before: Look, now: Look, are_all: bool) -> None:
    assert between(before, now, claims=3).are_all == are_all


def test_a_claim_that_was_being_committed_is_noticed_at_the_next_look() -> None:
    first, second, third = look(claims=3), look(claims=4), look(claims=4)

    assert not between(first, second, claims=first.claims).are_all  # its number was used up, and it was not seen
    assert not between(second, third, claims=first.claims).are_all  # it may have ended since
    assert between(third, look(claims=4), claims=second.claims).are_all


def test_who_was_away_gets_all_that_is_new_or_goes_on() -> None:
    now = look(fresh={1}, due={2}, changed={3}, claimed={4}, running={4, 5})

    assert set(since(Position(NOW, 0, 0), now).ids) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("position", "are_all"), [(Position(NOW, 7, 0), True), (Position(NOW, 6, 0), False), (Position(NOW, 7, 1), False)]
)
def test_who_was_away_looks_again_if_anything_may_have_ended(position: Position, are_all: bool) -> None:
    assert since(position, look(claims=7)).are_all == are_all


def test_the_same_state_is_told_once() -> None:
    told = Told()

    assert [len(told.news([task()])) for _ in range(2)] == [1, 0]
    assert len(told.news([task(progress=1)])) == 1
    assert len(told.news([task()])) == 1


def test_what_was_told_longest_ago_is_forgotten_first() -> None:
    told = Told(most=2)
    told.news([task(1), task(2)])
    told.news([task(1, progress=5), task(3)])

    assert told.news([task(1, progress=5), task(3)]) == []
    assert len(told.news([task(2)])) == 1


def test_unfinished_tasks_are_looked_at_again_those_told_last_first() -> None:
    told = Told()
    told.news([task(1), task(2, TaskState.SUCCEEDED), task(3), task(4)])

    assert told.unfinished(2) == [4, 3]
    told.news([task(4, TaskState.FAILED)])
    assert told.unfinished(9) == [3, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"state": TaskState.QUEUED},
        {"progress": 1},
        {"step": "posting"},
        {"note": "half"},
        {"attempt": 1},
        {"eta": NOW.replace(hour=13)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_version_changes_with_what_is_told(change: dict[str, Any]) -> None:
    assert task().version != task(**change).version


def test_a_version_does_not_tell_what_is_not_told() -> None:
    assert task().version == task(result='"another secret"', args="[]").version
    assert b"secret" not in task(result='"a secret"').frame
