"""Drain workers, on their own and as a part of something larger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker, WorkerEnded, WorkerUnknown, drain_worker
from pipeline.commands.workers import drain_workers
from pipeline.runtime import ask
from pipeline.store.audit import By
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., Any]


@pytest.fixture
def gate(broker: PostgresBroker) -> threading.Event:
    """What the actor ``wait`` waits for."""
    gate = threading.Event()

    @pipeline.actor(queue_name="letters", max_retries=0)
    def wait() -> str:
        gate.wait(20)
        return "done"

    return gate


def register(rows: Rows, host: str = "here") -> int:
    return int(rows("SELECT pipeline.register_worker_v1(%s, 1, 1, '{}', '{}')", host)[0][0])


def drained(rows: Rows) -> list[int]:
    return [row[0] for row in rows("SELECT worker_id FROM pipeline.worker WHERE drain_at IS NOT NULL ORDER BY 1")]


def test_a_worker_that_drains_finishes_its_tasks_and_claims_nothing_more(
    broker: PostgresBroker, gate: threading.Event, rows: Rows
) -> None:
    wait = broker.get_actor("wait")
    with working(broker, threads=2):
        running = wait.send()
        eventually(broker.interrupter.running)

        drain_worker(broker.hub.worker_id, who="ada", reason="an old disk")
        eventually(lambda: broker.hub.is_draining, within=10)
        later = wait.send()
        gate.set()
        assert running.get_result(block=True) == "done"
        eventually(lambda: rows("SELECT cardinality(running) FROM pipeline.worker") == [(0,)])

        assert rows("SELECT state FROM pipeline.task_status WHERE task_id = %s", later.message_id) == [("queued",)]
    assert rows("SELECT drained_by, drain_reason FROM pipeline.worker_status") == [("ada", "an old disk")]


def test_draining_again_changes_nothing(broker: PostgresBroker, rows: Rows) -> None:
    worker = register(rows)
    drain_worker(worker, who="ada", reason="an old disk")
    before = rows("SELECT * FROM pipeline.worker")

    drain_worker(worker, who="bob")

    assert rows("SELECT * FROM pipeline.worker") == before
    assert rows("SELECT who, worker_id FROM pipeline.audit") == [("ada", worker)]
    rows("SELECT pipeline.end_worker_v1(%s)", worker)


def test_workers_that_cannot_be_drained_are_named_and_nothing_is_done(broker: PostgresBroker, rows: Rows) -> None:
    alive, ended = register(rows), register(rows)
    rows("SELECT pipeline.end_worker_v1(%s)", ended)

    with pytest.raises(WorkerEnded, match=f"The worker {ended} is stopped; only one that is alive can be drained"):
        ask(drain_workers, [alive, ended], by=By("ada"))
    with pytest.raises(WorkerUnknown, match="There is no worker 999"):
        ask(drain_workers, [alive, 999], by=By("ada"))

    assert drained(rows) == []
    assert rows("SELECT 1 FROM pipeline.audit") == []
    rows("SELECT pipeline.end_worker_v1(%s)", alive)


def test_all_workers_of_a_machine_drain(broker: PostgresBroker, rows: Rows) -> None:
    mine, ended, theirs = register(rows), register(rows), register(rows, "there")
    rows("SELECT pipeline.end_worker_v1(%s)", ended)

    assert ask(drain_workers, host="here", by=By("ada")) == [mine]
    assert drained(rows) == [mine]
    assert ask(drain_workers, by=By("ada")) == [mine, theirs]
    with pytest.raises(WorkerUnknown, match="no worker that is alive on the host nowhere"):
        ask(drain_workers, host="nowhere", by=By("ada"))
    for worker in (mine, theirs):
        rows("SELECT pipeline.end_worker_v1(%s)", worker)


def test_two_who_drain_at_once_do_not_wait_in_a_circle(
    broker: PostgresBroker, rows: Rows, connect: Callable[..., Any]
) -> None:
    """Workers are locked in the order of their numbers, whatever the order in which they are named."""
    first, second = register(rows), register(rows)
    one, other = connect(), connect()
    with one.cursor() as cursor:
        drain_workers(broker.sql, cursor, [second, first], by=By("ada"))
    failures: list[Exception] = []

    def drain_too() -> None:
        try:
            with other.cursor() as cursor:
                drain_workers(broker.sql, cursor, [first, second], by=By("bob"))
            other.commit()
        except psycopg2.Error as error:
            failures.append(error)

    thread = threading.Thread(target=drain_too)
    thread.start()
    eventually(lambda: rows("SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", other.info.backend_pid))
    one.commit()
    thread.join(10)

    assert failures == []
    assert rows("SELECT DISTINCT drained_by FROM pipeline.worker") == [("ada",)]
    for worker in (first, second):
        rows("SELECT pipeline.end_worker_v1(%s)", worker)
