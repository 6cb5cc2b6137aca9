"""What a run leaves behind in its process."""

from __future__ import annotations

import gc

import dramatiq

from pipeline import current_task
from pipeline.broker.consumer import TaskProxy
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


def proxies() -> int:
    return sum(isinstance(each, TaskProxy) for each in gc.get_objects())


def test_nothing_of_a_run_waits_for_the_collector(broker) -> None:
    """Objects in a circle stay until it comes, and it takes the longer the more of them there are."""

    @dramatiq.actor(transactional=False, max_retries=1, min_backoff=1)
    def act(number: int) -> None:
        if number % 10 == 0 and current_task().attempt == 1:
            raise ValueError

    @dramatiq.actor(transactional=True)
    def book() -> None:
        current_task().cursor().execute("SELECT 1")

    gc.collect()
    before = proxies()
    gc.disable()
    try:
        with working(broker):
            broker.send_many([act.message(number) for number in range(100)])
            broker.send_many([book.message() for _ in range(100)])
            broker.join("default", timeout=30_000)
            eventually(lambda: broker.hub.is_idle)
            assert proxies() - before < 20  # those of runs that raised may be in their tracebacks
    finally:
        gc.enable()
