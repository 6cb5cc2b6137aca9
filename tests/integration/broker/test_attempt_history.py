"""What is known of each attempt: where it ran, how long it waited and took, and what went wrong."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

import pipeline
from pipeline import PostgresBroker, current_task
from pipeline.store import status
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]

TASKS, WORKERS = 20_000, 2_000
FILL = f"""
    INSERT INTO pipeline.worker (host, pid, threads, queues, state, ended_at)
    SELECT 'host-' || n, n, 8, '{{}}', 's', now() FROM generate_series(1, {WORKERS}) n;
    INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)
    SELECT (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint << 22 | n, now(), now(), gen_random_uuid(), 1, 's', 'work', '{{}}'
      FROM generate_series(1, {TASKS}) n;
    INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, worker_id, started_at, finished_at, next_eta)
    SELECT id, run, run, CASE run WHEN 3 THEN 's' ELSE 'r' END::"char", 1 + id % {WORKERS}, now(), now(), now()
      FROM pipeline.task, generate_series(1, 3) run;
    ANALYZE;
"""


@pytest.fixture
def attempts(broker: PostgresBroker) -> Callable[[str], list[status.AttemptRow]]:
    def ask(task_id: str) -> list[status.AttemptRow]:
        with broker.pool.connection() as connection, connection.cursor() as cursor:
            return status.attempts(broker.sql, cursor, task_id)

    return ask


def test_each_attempt_tells_where_it_ran_how_long_it_waited_and_took(
    broker: PostgresBroker, attempts: Any, rows: Rows
) -> None:
    @pipeline.actor(max_retries=1, min_backoff=300, max_backoff=300, jitter=False)
    def work() -> None:
        threading.Event().wait(0.2)
        if current_task().attempt == 1:
            raise ConnectionError("the bank is away")

    message = work.send()
    eventually(lambda: rows("SELECT 1 FROM pipeline.task WHERE created_at < clock_timestamp() - interval '0.5 s'"))
    with working(broker):
        eventually(lambda: len(attempts(message.message_id)) == 2)
    first, second = attempts(message.message_id)
    (worker,) = rows("SELECT worker_id FROM pipeline.worker")

    assert [(each.worker_id, each.host, each.pid) for each in (first, second)] == [
        (worker[0], socket.gethostname(), os.getpid())
    ] * 2
    assert (first.error_type, first.error_message) == ("ConnectionError", "the bank is away")
    assert "raise ConnectionError" in first.traceback
    assert (second.error_type, second.error_message, second.traceback) == (None, None, None)
    assert 0.2 <= first.run_seconds < 2
    assert 0.5 <= first.wait_seconds < 10  # since it was enqueued
    assert second.wait_seconds == pytest.approx((second.started_at - first.next_eta).total_seconds(), abs=0.001)
    assert 0 <= second.wait_seconds < 2  # since the retry was due, not since the first attempt


@pytest.mark.usefixtures("worker")
def test_what_ran_before_it_was_due_has_not_waited(attempts: Any) -> None:
    @pipeline.actor(max_retries=1, min_backoff=3_600_000, max_backoff=3_600_000)
    def work() -> None:
        if current_task().attempt == 1:
            raise ConnectionError

    message = work.send()
    eventually(lambda: len(attempts(message.message_id)) == 1)
    pipeline.retry_now(message.message_id, who="test")
    eventually(lambda: len(attempts(message.message_id)) == 2)

    assert attempts(message.message_id)[1].wait_seconds == 0


def test_what_never_began_has_neither_waited_nor_run(broker: PostgresBroker, attempts: Any) -> None:
    @pipeline.actor
    def work() -> None: ...

    message = work.send()
    pipeline.cancel(message.message_id, who="test")

    (row,) = attempts(message.message_id)
    assert (row.worker_id, row.host, row.pid, row.wait_seconds, row.run_seconds) == (None, None, None, None, None)
    assert attempts(str(uuid4())) == []


@pytest.mark.parametrize("column", ["task_id", "id"])
def test_the_attempts_of_a_task_are_found_by_indexes_alone(broker: PostgresBroker, rows: Rows, column: str) -> None:
    broker.declare_queue("default")
    broker.sender.ensure_lanes([("default", 0)])
    rows(FILL)
    ids = rows("SELECT message_id, id FROM pipeline.task LIMIT 50")
    question = f"SELECT * FROM pipeline.attempt_history WHERE {column} = %s ORDER BY run"

    plan = "\n".join(line for (line,) in rows(f"EXPLAIN {question}", ids[0][column == "id"]))
    scans = [
        line for line in plan.splitlines() if "Seq Scan" in line and "cost=0.00..0.00" not in line
    ]  # of empty tables
    assert scans == [], plan
    assert "Hash" not in plan, plan
    rows(f"PREPARE history AS {question.replace('%s', '$1')}")
    took = []
    for both in ids:
        began = time.perf_counter()
        assert len(rows("EXECUTE history (%s)", both[column == "id"])) == 3
        took.append(time.perf_counter() - began)
    assert sorted(took)[len(took) // 2] < 0.005  # a millisecond, on a machine that does nothing else
