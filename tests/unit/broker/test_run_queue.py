"""What a process holds for its threads."""

from __future__ import annotations

import threading
from queue import Empty
from uuid import uuid4

import dramatiq
import pytest

from pipeline.broker.consumer import TaskProxy
from pipeline.broker.run_queue import RunQueue


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


def test_a_task_whose_token_was_lost_with_a_thread_is_found_again() -> None:
    queue = RunQueue()
    queue.put((0, claimed()))
    queue._tokens.get()  # what a thread does that dies before it has taken the task
    with pytest.raises(Empty):
        queue.get_nowait()

    queue.knock()
    assert queue.get_nowait()[0] == 0
    queue.knock()  # for nothing
    with pytest.raises(Empty):
        queue.get_nowait()
