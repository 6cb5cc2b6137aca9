"""What time it is for the database, by a machine whose own clock is worth nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduler import database_clock
from scheduler.database_clock import DatabaseClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Machine:
    """A clock on the wall that can be set, and one that only goes on."""

    def __init__(self) -> None:
        self.wall = datetime(1999, 1, 1, tzinfo=UTC)
        self.seconds = 1000.0

    def now(self, _zone: object) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def go_on(self, seconds: float, *, wall: float | None = None) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(database_clock, "datetime", machine)
    monkeypatch.setattr(database_clock, "time", machine)
    return machine


def told(clock: DatabaseClock, machine: Machine, now: datetime, took: float = 0.0) -> bool:
    """The database says what time it is."""
    return clock.set(now, asked_at=machine.seconds - took, answered_at=machine.seconds)


def test_it_shows_what_the_database_said_and_goes_on_by_itself(machine: Machine) -> None:
    clock = DatabaseClock()
    told(clock, machine, NOON)

    machine.go_on(30, wall=-3600)

    assert clock.now() == NOON + timedelta(seconds=30)


def test_half_of_the_time_that_the_question_took_is_over_since(machine: Machine) -> None:
    clock = DatabaseClock()
    told(clock, machine, NOON, took=0.5)

    assert clock.now() == NOON + timedelta(seconds=0.25)


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [(60, 60, False), (60, 60.2, False), (60, -3540, True), (60, 3660, True), (70, 60, True), (60, 60.5, True)],
)
def test_a_jump_of_either_clock_is_noticed(machine: Machine, there: float, here: float, expected: bool) -> None:
    clock = DatabaseClock()
    assert not told(clock, machine, NOON), "the first time there is nothing to compare"

    machine.go_on(60, wall=here)

    assert told(clock, machine, NOON + timedelta(seconds=there)) is expected
    assert not told(clock, machine, NOON + timedelta(seconds=there)), "and told once"


def test_a_clock_that_goes_slowly_astray_is_noticed_in_time(machine: Machine) -> None:
    """Though no two looks differ by much: a timer of tomorrow was set long ago."""
    clock, noticed = DatabaseClock(), []
    for second in range(1000):
        noticed.append(told(clock, machine, NOON + timedelta(seconds=second)))
        machine.go_on(1, wall=1.001)

    assert noticed.count(True) == 3


def test_a_slow_answer_is_no_jump(machine: Machine) -> None:
    clock = DatabaseClock()
    told(clock, machine, NOON)
    machine.go_on(60)

    assert not told(clock, machine, NOON + timedelta(seconds=59), took=1.5)
