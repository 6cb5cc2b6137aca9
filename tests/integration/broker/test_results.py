"""Results: any JSON value, of any size up to the limit, readable from threads of the process that works."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dramatiq
import pytest
from dramatiq.encoder import JSONEncoder
from dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout

import pipeline
from pipeline import PostgresResultBackend
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


@pytest.fixture
def echo(broker) -> dramatiq.Actor:
    @dramatiq.actor(max_retries=0)
    def echo(value: Any) -> Any:
        return value

    return echo


@pytest.mark.parametrize(
    "value",
    [
        *(None, False, True, 0, -1, 2**63, 2**80, -(10**300), 1.5, 1e-300, 0.1 + 0.2),
        *("", "null", "ä€😀\\u0000 is six characters", "\u2028\ufeff", '"quoted\\', "e\u0301"),
        *([], {}, [[]], [None], {"": ""}, {"a": [1, {"b": None}]}, {"b": 1, "a": 2}, {"😀": ["\n\t"]}),
    ],
    ids=repr,
)
def test_a_result_comes_back_as_it_was(echo, worker, value) -> None:
    assert echo.send(value).get_result(block=True) == value


def test_a_deeply_nested_result_comes_back(broker, worker) -> None:
    @dramatiq.actor
    def deep() -> Any:
        value: Any = 1
        for _ in range(200):
            value = [{"a": value}]
        return value

    value = deep.send().get_result(block=True)
    for _ in range(200):
        value = value[0]["a"]
    assert value == 1


def test_a_result_at_the_limit_comes_back(broker, worker) -> None:
    """It is larger than the 8 kB that dramatiq-pg's notification could carry."""
    size = broker.settings.message_limit_bytes - len('""')

    @dramatiq.actor
    def big() -> str:
        return "x" * size

    assert len(big.send().get_result(block=True)) == size


def test_a_result_one_byte_over_the_limit_is_the_tasks_failure(broker, worker, rows) -> None:
    @dramatiq.actor(max_retries=0)
    def too_big() -> str:
        return "x" * (broker.settings.message_limit_bytes - len('""') + 1)

    with pytest.raises(ResultFailure, match="MessageTooLarge"):
        too_big.send().get_result(block=True)
    assert rows("SELECT state FROM pipeline.task_status") == [("failed",)]


@pytest.mark.parametrize(
    "value", [object(), float("nan"), "\0", "\ud800", {1, 2}], ids=["object", "nan", "nul", "surrogate", "set"]
)
def test_a_result_that_cannot_be_stored_is_the_tasks_failure(broker, worker, rows, value) -> None:
    @dramatiq.actor(max_retries=0)
    def bad() -> Any:
        return value

    with pytest.raises(ResultFailure, match="MessageNotEncodable"):
        bad.send().get_result(block=True)
    assert rows("SELECT state, reason FROM pipeline.task_status JOIN pipeline.attempt_history USING (task_id)") == [
        ("failed", "error")
    ]


@pytest.mark.parametrize(
    "text", ["NUL \0 inside", "half a pair \ud800", "x" * 2_000_000], ids=["nul", "surrogate", "long"]
)
def test_a_failure_is_told_whatever_its_text_holds(broker, worker, text) -> None:
    @dramatiq.actor(throws=ValueError)  # so that nobody logs the text
    def fail() -> None:
        raise ValueError(text)

    with pytest.raises(ResultFailure, match="ValueError"):
        fail.send().get_result(block=True, timeout=3_000)


def test_a_failure_is_told_only_when_the_retries_are_over(broker, worker) -> None:
    may_go_on = threading.Event()

    @dramatiq.actor(max_retries=1, min_backoff=1)
    def fail() -> None:
        if not may_go_on.is_set():
            may_go_on.set()
            raise ValueError("first")
        raise ValueError("second")

    with pytest.raises(ResultFailure, match="second"):
        fail.send().get_result(block=True)


def test_twenty_threads_of_the_process_that_works_wait_at_once(echo, broker) -> None:
    """dramatiq-pg's own waiting loses results here."""
    with working(broker, threads=8), ThreadPoolExecutor(20) as callers:
        got = callers.map(lambda x: echo.send(x).get_result(block=True, timeout=20_000), range(400))

        assert list(got) == list(range(400))


def test_many_waiters_for_one_result_all_get_it(echo, broker) -> None:
    message = echo.message({"one": "result"})
    with ThreadPoolExecutor(20) as callers:
        waiting = [callers.submit(message.get_result, block=True, timeout=20_000) for _ in range(20)]
        with working(broker):
            broker.enqueue(message)
            assert [each.result() for each in waiting] == [{"one": "result"}] * 20


def test_a_task_may_wait_for_another_tasks_result(echo, broker) -> None:
    @dramatiq.actor
    def outer(x: int) -> int:
        return 1 + echo.send(x).get_result(block=True)

    with working(broker, threads=2):
        assert outer.send(1).get_result(block=True) == 2


def test_waiting_ends_when_the_task_is_cancelled(echo, broker) -> None:
    message = echo.send(1)
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(message.get_result, block=True, timeout=20_000)
        eventually(lambda: any(thread.name == "pipeline-results" for thread in threading.enumerate()))

        pipeline.cancel(message.message_id, who="ada", reason="no more")

        with pytest.raises(ResultFailure, match="The task is cancelled: Cancelled: no more") as raised:
            waiting.result(timeout=10)
    assert (raised.value.orig_exc_type, raised.value.orig_exc_msg) == ("Cancelled", "no more")
    with pytest.raises(ResultFailure):
        message.get_result()


def test_a_cancelled_task_that_runs_again_has_a_result(echo, broker) -> None:
    message = echo.send(1)
    pipeline.cancel(message.message_id, who="ada")
    pipeline.retry_now(message.message_id, who="ada")
    with pytest.raises(ResultMissing):
        message.get_result()

    with working(broker):
        assert message.get_result(block=True, timeout=20_000) == 1


@pytest.mark.leaves("worker")
def test_waiting_ends_when_the_task_fails_as_poison(echo, rows) -> None:
    message = echo.send(1)
    worker = rows("SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')")[0][0]
    nothing = ", ".join(["'{}'"] * 8)
    rows(
        f"SELECT * FROM pipeline.exchange_v1({worker}, 1, {nothing}, NULL, false, '{{}}', '{{default}}', 1, NULL, NULL)"
    )
    rows("SELECT pipeline.rescue_v1(%s, 0, 1)", worker)

    with pytest.raises(ResultFailure, match="WorkerLost"):
        message.get_result(block=True, timeout=20_000)


def test_a_task_that_keeps_no_result_is_waited_for_as_ever(broker, worker, states) -> None:
    """Its program may store one by hand, later."""

    @dramatiq.actor(store_results=False)
    def quiet() -> None: ...

    message = quiet.send()
    eventually(lambda: states() == ["succeeded"])

    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=100)


def test_waiting_ends_with_a_timeout(echo) -> None:
    with pytest.raises(ResultTimeout):
        echo.send(1).get_result(block=True, timeout=100)


def test_a_result_is_gone_when_its_time_is_over(broker, worker, rows) -> None:
    @dramatiq.actor(result_ttl=100)
    def brief() -> int:
        return 1

    message = brief.send()
    message.get_result(block=True)

    eventually(
        lambda: rows("SELECT 1 FROM pipeline.task_status WHERE clock_timestamp() > finished_at + interval '150 ms'")
    )
    with pytest.raises(ResultMissing):
        message.get_result()


def test_an_actor_may_choose_not_to_store_results(broker, worker, states) -> None:
    @dramatiq.actor(store_results=False)
    def quiet() -> int:
        return 1

    message = quiet.send()

    eventually(lambda: states() == ["succeeded"])
    with pytest.raises(ResultMissing):
        message.get_result()


def test_the_result_of_an_earlier_run_is_not_taken_for_that_of_the_next(broker, worker) -> None:
    may_end = threading.Event()
    runs: list[int] = []

    @dramatiq.actor
    def count() -> int:
        runs.append(1)
        if len(runs) == 2:
            may_end.wait(5)
        return len(runs)

    message = count.send()
    assert message.get_result(block=True) == 1
    broker.enqueue(message)
    eventually(lambda: len(runs) == 2)
    may_end.set()

    eventually(lambda: message.get_result() == 2)


def test_a_stored_result_may_be_overwritten_by_hand_outside_a_task(broker, echo) -> None:
    message = echo.message(1)
    backend = broker.get_results_backend()
    backend.store_result(message, {"by": "hand"}, 60_000)

    assert message.get_result() == {"by": "hand"}


class Stamped(JSONEncoder):
    """JSON in an envelope, so that what another encoder wrote is noticed."""

    def encode(self, data: Any) -> bytes:
        return super().encode({"stamped": data})

    def decode(self, data: bytes) -> Any:
        return super().decode(data)["stamped"]


def test_a_backends_own_encoder_writes_and_reads_its_results(make_broker, database_url, rows) -> None:
    backend = PostgresResultBackend(url=database_url, encoder=Stamped())
    broker = make_broker(middleware=[Results(backend=backend, store_results=True)])

    @dramatiq.actor
    def one() -> int:
        return 1

    with working(broker):
        assert one.send().get_result(block=True) == 1
    assert rows("SELECT result::jsonb FROM pipeline.task_status") == [({"stamped": 1},)]
    backend.pool.closeall()
