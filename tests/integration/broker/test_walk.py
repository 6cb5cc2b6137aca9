"""The straight walk of a task: sent, claimed, run, concluded, read."""

import dramatiq
import pytest

from pipeline import PostgresBroker
from tests.fixtures.wait import eventually


def test_a_task_runs_and_its_result_is_read(broker: PostgresBroker, worker: dramatiq.Worker) -> None:
    @dramatiq.actor
    def add(x: int, y: int) -> int:
        return x + y

    message = add.send(1, 2)

    assert message.get_result(block=True) == 3


def test_a_failing_task_is_retried_and_each_error_kept(broker: PostgresBroker, worker, rows) -> None:
    @dramatiq.actor(max_retries=2, min_backoff=10)
    def fail() -> None:
        raise ValueError("no")

    message = fail.send()

    with pytest.raises(dramatiq.results.ResultFailure, match="ValueError: no"):
        message.get_result(block=True)
    history = rows("SELECT attempt, outcome, error_message, traceback FROM pipeline.attempt_history ORDER BY run")
    assert [row[:3] for row in history] == [(1, "retry", "no"), (2, "retry", "no"), (3, "failed", "no")]
    assert all("raise ValueError" in row[3] for row in history)


def test_nothing_is_left_of_a_finished_task_but_its_record(broker: PostgresBroker, worker, rows) -> None:
    @dramatiq.actor
    def noop() -> None:
        pass

    for _ in range(50):
        noop.send()

    broker.join("default", timeout=10_000)
    eventually(lambda: rows("SELECT count(*) FROM pipeline.claim") == [(0,)])
    assert rows("SELECT count(*) FROM pipeline.ready") == [(0,)]
    assert rows("SELECT state, count(*) FROM pipeline.task_status GROUP BY 1") == [("succeeded", 50)]
