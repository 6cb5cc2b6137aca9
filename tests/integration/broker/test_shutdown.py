"""Stopping a worker: race 23, the part inside one process."""

from __future__ import annotations

import threading
import time

import dramatiq
import pytest

from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


def stop_in_background(worker: dramatiq.Worker, timeout_ms: int = 10_000) -> threading.Thread:
    thread = threading.Thread(target=worker.stop, kwargs={"timeout": timeout_ms}, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def gate(broker) -> threading.Event:
    """What the actor ``wait`` waits for."""
    gate = threading.Event()

    @dramatiq.actor(max_retries=0)
    def wait(n: int) -> int:
        gate.wait(30)
        return n

    return gate


def prefetch(broker, worker: dramatiq.Worker, count: int) -> None:
    """Let the hub hold more tasks than there are threads, which all have begun one, as it does while tasks are tiny."""
    eventually(lambda: len(broker.interrupter.running()) == worker.worker_threads)
    broker.hub._pace._mean_seconds = 0.0  # first, or the hub's next claim would take the prefetch back
    broker.hub._pace._prefetch = count
    broker.hub.wake()


def test_what_runs_finishes_and_what_was_claimed_ahead_waits_again_uncounted(broker, gate, rows, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.broker.pace._STALLED_SECONDS", 60)
    wait = broker.get_actor("wait")
    messages = [wait.send(n) for n in range(12)]
    with working(broker, threads=2) as worker:
        prefetch(broker, worker, 10)
        eventually(lambda: rows("SELECT coalesce(sum(cardinality(ids)), 0) FROM pipeline.claim") == [(12,)])
        stopping = stop_in_background(worker)
        eventually(lambda: rows("SELECT count(*) FROM pipeline.ready") == [(10,)])
        gate.set()
        stopping.join(10)

    assert rows("SELECT state, attempt, count(*) FROM pipeline.task_status GROUP BY 1, 2 ORDER BY 1") == [
        ("queued", 0, 10),
        ("succeeded", 1, 2),
    ]
    assert [messages[n].get_result() for n in (0, 1)] == [0, 1]
    assert rows("SELECT DISTINCT attempt, outcome FROM pipeline.attempt_history WHERE outcome <> 'succeeded'") == [
        (0, "interrupted")
    ]


def test_tasks_given_back_at_a_stop_keep_their_place_in_the_line(broker, gate, rows, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.broker.pace._STALLED_SECONDS", 60)
    order: list[int] = []

    @dramatiq.actor
    def note(n: int) -> None:
        order.append(n)

    wait = broker.get_actor("wait")
    wait.send(0)
    for n in range(8):
        note.send(n)
    with working(broker, threads=1) as worker:
        prefetch(broker, worker, 4)
        eventually(lambda: rows("SELECT coalesce(sum(cardinality(ids)), 0) FROM pipeline.claim")[0][0] >= 5)
        stopping = stop_in_background(worker)
        eventually(lambda: rows("SELECT count(*) FROM pipeline.ready") == [(8,)])
        gate.set()
        stopping.join(10)
    assert order == []

    with working(broker, threads=1):
        broker.join("default", timeout=5_000)
    assert order == list(range(8))


def test_a_stopping_worker_claims_nothing_more(broker, gate, rows) -> None:
    wait = broker.get_actor("wait")
    wait.send(0)
    with working(broker, threads=2) as worker:
        eventually(lambda: broker.interrupter.running())
        stopping = stop_in_background(worker)
        eventually(lambda: not broker.hub._is_claiming)
        later = wait.send(1)
        gate.set()
        stopping.join(10)

    assert rows("SELECT state FROM pipeline.task_status WHERE task_id = %s", later.message_id) == [("queued",)]


def test_a_stopped_worker_leaves_no_claim_no_session_and_no_thread(broker, gate, rows) -> None:
    gate.set()
    for n in range(20):
        broker.get_actor("wait").send(n)
    with working(broker):
        broker.join("default", timeout=5_000)

    assert rows("SELECT 1 FROM pipeline.claim") == []
    assert rows("SELECT state, running::text FROM pipeline.worker") == [("s", "{}")]
    assert not broker.is_working
    eventually(lambda: rows("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == [(1,)])


def test_a_task_still_running_at_the_end_of_the_patience_waits_again_and_its_late_end_counts_for_nothing(
    broker, gate, rows
) -> None:
    """Dramatiq gives up on the thread; the worker's end gives its claims back."""
    message = broker.get_actor("wait").send(0)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    eventually(lambda: broker.interrupter.running())
    began = time.monotonic()
    worker.stop(timeout=300)
    assert time.monotonic() - began < 8
    assert rows("SELECT state, attempt FROM pipeline.task_status") == [("queued", 0)]

    gate.set()
    eventually(lambda: not any(thread.is_alive() for thread in worker.workers))
    assert rows("SELECT state, attempt FROM pipeline.task_status") == [("queued", 0)]
    with working(broker):
        assert message.get_result(block=True) == 0


def test_stopping_while_the_database_is_away_ends_within_its_deadline(proxy, proxied_broker, rows) -> None:
    may_end, has_ended = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow() -> None:
        may_end.wait(20)
        has_ended.set()

    slow.send()
    worker = dramatiq.Worker(proxied_broker, worker_threads=2, worker_timeout=50)
    worker.start()
    eventually(lambda: proxied_broker.interrupter.running())
    hub = proxied_broker.hub
    proxy.cut()
    eventually(lambda: not hub.is_connected)
    may_end.set()
    assert has_ended.wait(5)

    began = time.monotonic()
    worker.stop(timeout=2_000)
    assert time.monotonic() - began < 2 + 10 + 5 + 3  # threads, hub, caretaker, a slow machine

    proxy.restore()
    hub.join(10)  # its outcome was kept, and is written late rather than never
    assert not hub.is_alive()
    assert rows("SELECT state FROM pipeline.task_status") == [("succeeded",)]


def test_stopping_an_idle_worker_while_the_database_is_away_is_quick(proxy, proxied_broker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    with working(proxied_broker):
        noop.send().get_result(block=True)
        eventually(lambda: rows("SELECT 1 FROM pipeline.claim") == [])
        proxy.cut()
        eventually(lambda: not proxied_broker.hub.is_connected)
        began = time.monotonic()
    assert time.monotonic() - began < 8
    rows("UPDATE pipeline.worker SET state = 's'")  # its lease would have run out


def test_a_stop_before_anything_was_connected_ends_at_once(proxy, proxied_broker) -> None:
    proxy.cut()
    began = time.monotonic()
    with working(proxied_broker):
        pass
    assert time.monotonic() - began < 8
