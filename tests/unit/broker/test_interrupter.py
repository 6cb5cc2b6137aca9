import threading
from typing import Any

import pytest
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from pipeline.broker.interrupter import Interrupter


@pytest.fixture
def interrupter() -> Interrupter:
    return Interrupter()


def task(name: str = "task") -> Any:
    """All that the interrupter asks of a task is to be itself."""

    class Task:
        task_id = name
        run = 1

    return Task()


def spin(rounds: int = 1_000) -> None:
    """Give an exception that is on its way every chance to arrive."""
    for _ in range(rounds):
        pass


def test_the_named_task_is_hit(interrupter) -> None:
    mine = task()
    interrupter.begin(mine)
    with pytest.raises(TimeLimitExceeded):
        assert interrupter.interrupt(mine, TimeLimitExceeded)
        spin()
    interrupter.end()


def test_a_task_that_does_not_run_is_not_hit(interrupter) -> None:
    interrupter.begin(task("mine"))

    assert not interrupter.interrupt(task("another"), Shutdown)
    spin()
    interrupter.end()


def test_a_task_that_has_ended_is_not_hit(interrupter) -> None:
    mine = task()
    interrupter.begin(mine)
    interrupter.end()

    assert not interrupter.interrupt(mine, Shutdown)
    spin()


def test_an_exception_still_on_its_way_is_cleared_at_the_end(interrupter) -> None:
    """Raised from another thread while this one is at its end: either it was in time, or it never comes."""
    for _ in range(300):
        mine = task()
        interrupter.begin(mine)
        striker = threading.Thread(target=interrupter.interrupt, args=(mine, Shutdown))
        try:
            striker.start()
            interrupter.end()
        except Shutdown:
            interrupter.end()
        striker.join()
        spin(50)

    assert interrupter.running() == []


def test_a_limit_that_is_over_hits_its_task_once(interrupter) -> None:
    mine = task()
    interrupter.begin(mine)
    interrupter.limit(mine, 0)
    with pytest.raises(TimeLimitExceeded):
        interrupter.check_limits()
        spin()
    interrupter.check_limits()
    spin()
    interrupter.end()


def test_a_limit_that_is_not_over_hits_nobody(interrupter) -> None:
    mine = task()
    interrupter.begin(mine)
    interrupter.limit(mine, 60)
    interrupter.check_limits()
    spin()
    interrupter.end()

    assert interrupter._deadlines == {}


def test_what_runs_is_listed(interrupter) -> None:
    mine = task()
    assert interrupter.running() == []
    interrupter.begin(mine)
    assert interrupter.running() == [mine]
    interrupter.end()
    assert interrupter.running() == []


def test_ending_what_has_not_begun_changes_nothing(interrupter) -> None:
    interrupter.end()
    interrupter.end_if_running()

    assert interrupter.running() == []


def test_an_end_that_was_missed_is_made_up_for(interrupter) -> None:
    interrupter.begin(task())
    interrupter.end_if_running()

    assert interrupter.running() == []
