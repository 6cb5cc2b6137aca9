"""What a process holds for its threads."""

from __future__ import annotations

import heapq
import threading
from queue import Empty
from uuid import uuid4

import dramatiq
import pytest

from pipeline.broker.consumer import TaskProxy
from pipeline.broker.handover import Handover
from pipeline.broker.run_queue import RunQueue
from tests.fixtures.wait import eventually


def claimed(claim_id: int = 1, eta: float = 0, id: int = 1) -> TaskProxy:
    message = dramatiq.Message("q", "a", (), {}, {}, message_id=str(uuid4()))
    return TaskProxy(message, id=id, run=1, attempt=1, lane_id=5, priority=0, eta=eta, claim_id=claim_id)


def test_the_order_is_priority_then_claim_then_eta_then_id() -> None:
    in_order = [
        (-1, claimed(9, 9, 9)),
        (0, claimed(1, 50, 9)),
        (0, claimed(1, 60, 1)),
        (0, claimed(1, 60, 2)),
        (0, claimed(2, 10, 3)),
    ]
    queue = RunQueue()
    for place in (3, 1, 4, 0, 2):
        queue.put(in_order[place])

    assert queue.qsize() == 5
    assert set(queue.queue) == set(in_order)
    assert [queue.get() for _ in in_order] == in_order
    assert queue.queue == []


def test_an_empty_queue_says_so_at_once_or_in_time() -> None:
    queue = RunQueue()

    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.01)


def test_who_waits_is_woken() -> None:
    queue, got = RunQueue(), []
    thread = threading.Thread(target=lambda: got.append(queue.get(timeout=10)))
    thread.start()
    queue.put((0, claimed()))
    thread.join(10)

    assert len(got) == 1


def test_join_waits_for_the_last_task_to_be_counted_off() -> None:
    queue = RunQueue()
    queue.put((0, claimed()))
    queue.get()
    waiter = threading.Thread(target=queue.join)
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()

    queue.task_done()
    waiter.join(10)
    assert not waiter.is_alive()


def test_each_task_goes_to_one_of_many_threads() -> None:
    queue, got = RunQueue(), []

    def take() -> None:
        while True:
            try:
                got.append(queue.get(timeout=0.5)[1].id)
            except Empty:
                return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        queue.put((number % 3, claimed(id=number)))
    for thread in threads:
        thread.join(30)

    assert sorted(got) == list(range(20_000))


def test_a_task_whose_thread_died_on_its_way_is_found_by_who_is_knocked_up() -> None:
    queue, got = RunQueue(), []
    thread = threading.Thread(target=lambda: got.append(queue.get(timeout=10)))
    thread.start()
    eventually(lambda: queue._sleepers)
    heapq.heappush(queue._heap, (0, 1, 0.0, 1, claimed()))  # what was put and is looked for by nobody

    queue.knock()
    thread.join(10)
    assert len(got) == 1
    queue.knock()  # for nobody
    with pytest.raises(Empty):
        queue.get_nowait()


def test_whoever_is_knocked_up_for_nothing_says_so() -> None:
    queue, ended = RunQueue(), []

    def take() -> None:
        with pytest.raises(Empty):
            queue.get(timeout=60)
        ended.append(True)

    thread = threading.Thread(target=take)
    thread.start()
    eventually(lambda: queue._sleepers)
    queue.knock()
    thread.join(10)

    assert ended == [True]
    assert not queue._sleepers


@pytest.mark.parametrize("seconds", [-1, 0, 1e-9, 1e-6, 1e-5])
def test_a_wait_whose_time_runs_out_at_once_ends(seconds: float) -> None:
    """That of queue.SimpleQueue does not: it goes on to wait for a negative time, which is for ever."""
    queue, handover = RunQueue(), Handover()
    for _ in range(200):
        with pytest.raises(Empty):
            queue.get(timeout=seconds)
        assert handover.wait(seconds) == []


def test_what_is_handed_over_wakes_the_hub_and_what_is_left_waits_for_it() -> None:
    handover, got = Handover(), []
    hub = threading.Thread(target=lambda: got.extend(handover.wait(10)))
    hub.start()
    left, put = claimed(id=1), claimed(id=2)
    handover.leave(left)
    hub.join(0.05)
    assert hub.is_alive()

    handover.put(put)
    hub.join(10)
    assert got == [left, put]
    assert handover.empty()


def test_nothing_that_many_threads_hand_over_is_lost_or_slept_over() -> None:
    handover, got = Handover(), []
    threads = [
        threading.Thread(target=lambda: [handover.put(claimed(id=number)) for number in range(2_000)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while len(got) < 16_000:
        came = handover.wait(10)
        assert came or len(got) > 0  # woken for nothing now and then, but never late
        got += came

    assert handover.empty()
