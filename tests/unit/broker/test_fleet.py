"""What a worker process makes of its standing among all others."""

from __future__ import annotations

import pytest

from pipeline.broker.fleet import Fleet
from pipeline.settings import Settings
from pipeline.store.workers import Standing


def fleet(standing: Standing | None = None, **settings: float) -> Fleet:
    made = Fleet(Settings(**settings))  # type: ignore[arg-type]
    if standing is not None:
        made.learn(standing)
    return made


def test_a_process_that_has_heard_nothing_takes_itself_to_be_alone() -> None:
    alone = fleet()

    assert (alone.shortest_pause, alone.longest_pause) == (0.005, 0.3)
    assert alone.listens
    assert alone.patience(1) == 1


@pytest.mark.parametrize(("others", "pause"), [(0, 0.3), (1, 0.36), (5, 0.6), (199, 2.5)])
def test_the_pauses_of_all_grow_with_their_number_up_to_a_limit(others: int, pause: float) -> None:
    assert fleet(Standing(others_free=others)).longest_pause == pytest.approx(pause)


@pytest.mark.parametrize("others", range(300))
def test_together_many_look_more_often_than_few(others: int) -> None:
    some, more = (fleet(Standing(others_free=number)).longest_pause for number in (others, others + 1))

    assert (others + 2) / more > (others + 1) / some


def test_a_fleet_does_not_look_more_often_than_one_process_may() -> None:
    patient = fleet(Standing(others_free=199), poll_max_ms=3000)

    assert patient.longest_pause == 3.0


def test_the_pause_leaves_time_to_beat() -> None:
    assert fleet(Standing(others_free=199), beat_seconds=0.5, lease_seconds=2).longest_pause == 0.3
    assert fleet(Standing(others_free=199), beat_seconds=2, lease_seconds=5).longest_pause == 1


def test_after_work_a_few_look_at_once_and_each_of_many_leaves_it_to_the_others() -> None:
    assert fleet(Standing(others_free=7)).shortest_pause == 0.005
    assert fleet(Standing(others_free=199)).shortest_pause == 0.2


@pytest.mark.parametrize(("size", "listeners"), [(1, 1), (8, 8), (9, 3), (200, 3)])
def test_all_of_a_few_listen_and_the_first_three_of_many(size: int, listeners: int) -> None:
    standings = [Standing(older=place, others_free=size - 1, older_free=place) for place in range(size)]

    assert [fleet(each).listens for each in standings] == [True] * listeners + [False] * (size - listeners)


def test_those_that_are_busy_are_not_relied_upon() -> None:
    """The last of 200 that has a thread free hears every NOTIFY, and looks as often as if it were alone."""
    last = fleet(Standing(older=199, others_free=0, older_free=0))

    assert last.listens
    assert last.longest_pause == 0.3


def test_a_duty_is_left_to_the_first_ones_and_looked_at_seldom_by_the_others() -> None:
    patience = [fleet(Standing(older=place)).patience(2) for place in range(200)]

    assert patience[:2] == [1, 1]
    assert min(patience[2:]) >= 10
    assert sum(1 / each for each in patience[2:]) < 1
