from types import SimpleNamespace

import pytest

from pipeline.broker import pace as pace_module
from pipeline.broker.pace import Pace, Turns


def test_slow_tasks_are_never_prefetched() -> None:
    pace = Pace(4)
    for _ in range(100):
        pace.ended(1.0)
        pace.claimed(4, 4, 0)

    assert pace.target() == 4


def test_tiny_tasks_are_prefetched_more_and_more_up_to_a_limit() -> None:
    pace = Pace(4)
    targets = []
    for _ in range(400):
        pace.ended(0.0001)
        pace.claimed(10, 10, 0)
        targets.append(pace.target())

    assert targets == sorted(targets)
    assert targets[-1] == 4 + 1024


def test_a_lane_with_less_than_was_wanted_grows_nothing() -> None:
    pace = Pace(4)
    for _ in range(400):
        pace.ended(0.0001)
        pace.claimed(3, 10, 0)

    assert pace.target() == 4


def test_one_slow_spell_ends_the_prefetch_at_once() -> None:
    pace = Pace(4)
    for _ in range(400):
        pace.ended(0.0001)
        pace.claimed(10, 10, 0)
    for _ in range(10):
        pace.ended(1.0)
    pace.claimed(10, 10, 0)

    assert pace.target() == 4


def test_as_many_tasks_as_threads_are_never_stalled(monkeypatch) -> None:
    pace = Pace(4)
    monkeypatch.setattr("pipeline.broker.pace._STALLED_SECONDS", -1)

    assert not pace.is_stalled(4)
    assert pace.is_stalled(5)


def quick(threads: int) -> Pace:
    """One that has learnt that tasks are tiny."""
    pace = Pace(threads)
    for _ in range(400):
        pace.ended(0.0001)
    return pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def test_tasks_behind_slow_ones_are_stalled_only_while_nothing_ends(clock: SimpleNamespace) -> None:
    pace = quick(4)
    pace.claimed(100, 100, 0)
    clock.now += 0.09
    pace.ended(0.0001)
    clock.now += 0.09
    assert not pace.is_stalled(99)

    clock.now += 0.02
    assert pace.is_stalled(99)


def test_what_is_claimed_after_an_idle_hour_is_not_stalled_at_once(clock: SimpleNamespace) -> None:
    pace = quick(4)
    clock.now += 3600
    pace.claimed(6, 10, 0)
    assert not pace.is_stalled(6)

    clock.now += 0.09
    pace.claimed(1, 4, 6)  # more that comes does not make what waits any younger
    clock.now += 0.02
    assert pace.is_stalled(7)


def test_what_was_taken_ahead_goes_back_when_it_takes_longer_than_it_seemed(clock: SimpleNamespace) -> None:
    pace = quick(4)
    pace.claimed(500, 500, 0)
    assert not pace.is_stalled(504)

    for _ in range(4):
        clock.now += 0.02
        pace.ended(0.02)

    assert pace.is_stalled(500)
    assert pace.target() == 4


def test_no_more_is_taken_ahead_than_the_threads_do_in_a_moment() -> None:
    pace = Pace(4)
    for _ in range(1_000):
        pace.ended(0.004)
        pace.claimed(10, 10, 0)

    assert 4 + 48 <= pace.target() <= 4 + 50  # 50 ms of four threads


def test_every_tenth_claim_is_a_turn_and_what_it_brings_comes_first() -> None:
    turns = Turns(0.1)

    for _ in range(9):
        assert turns.next() is None
        assert turns.place(5) == 5
    assert turns.next() == 1
    assert turns.place(5) < -32768
    assert turns.next() is None
    assert turns.place(5) == 5


def test_without_a_share_there_are_no_turns() -> None:
    turns = Turns(0)

    assert {turns.next() for _ in range(100)} == {None}


def test_in_a_stream_exchanges_begin_apart_and_a_single_task_waits_for_nothing(clock: SimpleNamespace) -> None:
    pace = quick(4)
    for _ in range(20):  # one every five milliseconds is no stream
        clock.now += 0.005
        pace.claimed(1, 4, 0)
        assert pace.pause(clock.now) == 0
    for _ in range(20):
        clock.now += 0.001
        pace.claimed(1, 4, 0)
    assert pace.pause(clock.now - 0.003) == pytest.approx(0.005)
    assert pace.pause(clock.now - 0.1) == 0

    clock.now += 0.2
    pace.claimed(1, 4, 0)
    assert pace.pause(clock.now) == 0


def test_a_claim_waits_until_it_is_worth_it_but_no_thread_waits_for_it() -> None:
    pace = quick(4)
    for _ in range(20):
        pace.claimed(500, 500, 0)
    room = pace.target() // 4

    assert pace.is_worth(room, waiting=100)
    assert not pace.is_worth(room - 1, waiting=100)
    assert pace.is_worth(1, waiting=3)
    assert not pace.is_worth(0, waiting=0)


def test_without_prefetch_each_free_thread_is_worth_a_claim() -> None:
    assert Pace(8).is_worth(1, waiting=0)
