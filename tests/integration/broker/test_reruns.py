"""A finished task that is enqueued again is the same task, and shows what it does now."""

import threading

import dramatiq

from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


def test_a_finished_task_that_runs_again_is_shown_as_running(broker, states) -> None:
    may_end = threading.Event()
    may_end.set()

    @dramatiq.actor
    def wait() -> None:
        may_end.wait(10)

    with working(broker):
        message = wait.send()
        eventually(lambda: states() == ["succeeded"])
        may_end.clear()
        broker.enqueue(message)
        eventually(lambda: states() == ["running"])
        may_end.set()
        eventually(lambda: states() == ["succeeded"])
