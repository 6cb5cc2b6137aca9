"""Timers that APScheduler runs: each call comes, and only the last one that was set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from scheduler.timers import Timers
from tests.fixtures.wait import eventually


@pytest.fixture
def called() -> Queue[int]:
    return Queue()


@pytest.fixture
def timers(called: Queue[int]) -> Iterator[Timers]:
    timers = Timers(called.put, threads=2)
    timers.start()
    yield timers
    timers.stop()


def test_it_calls_when_the_time_has_come(timers: Timers, called: Queue[int]) -> None:
    timers.set(7, 0.1)
    timers.set(8, -5)

    assert [called.get(timeout=5), called.get(timeout=5)] == [8, 7]


def test_only_what_was_set_last_counts(timers: Timers, called: Queue[int]) -> None:
    timers.set(7, 0.05)
    timers.set(7, 3600)
    timers.set(8, 0.05)
    timers.clear(8)
    timers.set(9, 0.2)
    timers.clear(10)

    assert called.get(timeout=5) == 9
    assert called.empty()


@pytest.fixture
def held() -> Iterator[tuple[Callable[[int], None], threading.Event, list[int]]]:
    """A call that lasts until it is let go."""
    go_on, begun = threading.Event(), []

    def call(number: int) -> None:
        begun.append(number)
        go_on.wait(10)

    yield call, go_on, begun
    go_on.set()


def test_no_call_is_dropped_because_an_earlier_one_still_runs(
    held: tuple[Callable[[int], None], threading.Event, list[int]],
) -> None:
    call, _, begun = held
    timers = Timers(call, threads=2)
    timers.start()
    timers.set(7, 0)
    eventually(lambda: begun == [7])

    timers.set(7, 0)

    eventually(lambda: begun == [7, 7])
    timers.stop()


def test_a_stop_waits_for_nobody_and_a_call_can_still_set_a_timer(
    held: tuple[Callable[[int], None], threading.Event, list[int]],
) -> None:
    """APScheduler's own way to wait holds the lock that setting a timer needs."""
    call, go_on, begun = held
    timers = Timers(call, threads=1)
    timers.start()
    timers.set(7, 0)
    eventually(lambda: begun == [7])

    timers.stop()
    timers.set(8, 0)
    timers.clear(8)

    go_on.set()


def test_a_stop_while_a_timer_is_being_put_away_is_no_error() -> None:
    """Each time, the stop comes just when a call has begun; pytest tells of threads that die of an exception."""
    for _ in range(50):
        begun = threading.Event()
        timers = Timers(lambda _number, begun=begun: begun.set(), threads=1)
        timers.start()
        timers.set(1, 0)
        assert begun.wait(5)
        timers.stop()
