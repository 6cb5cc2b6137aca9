"""The five functions that existing code calls."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dramatiq.results import ResultTimeout

import pipeline
from pipeline import PostgresBroker, TaskNotFound, TaskNotSucceeded
from pipeline.errors import NoCurrentTask
from pipeline.settings import Settings
from pipeline.task_queue import (
    enqueue_task_after_transaction,
    get_task_result,
    get_task_status,
    retry_task_with_exponential_backoff,
    update_task_progress,
)
from tests.fixtures.broker import global_broker, working
from tests.fixtures.wait import eventually

Ask = Callable[..., Any]


@pytest.fixture
def add(broker: PostgresBroker) -> Any:
    @pipeline.actor(max_retries=0)
    def add(first: int, second: int = 0) -> int | None:
        if first < 0:
            raise ValueError("below zero")
        return first + second or None

    return add


def status_of(task_id: str) -> dict[str, Any]:
    found = get_task_status(task_id)
    assert found is not None
    return found


def test_a_task_is_enqueued_at_once_outside_transactions(add: Any) -> None:
    message = enqueue_task_after_transaction(add, 1, second=2)

    assert status_of(message.message_id)["status"] == "queued"


def test_a_task_belongs_to_the_transaction(add: Any, connect: Ask) -> None:
    connection = connect()
    with pipeline.enlist(connection):
        message = enqueue_task_after_transaction(add, 1)
    assert get_task_status(message.message_id) is None

    connection.rollback()
    assert get_task_status(message.message_id) is None

    with pipeline.enlist(connection):
        message = enqueue_task_after_transaction(add, 1)
    connection.commit()
    assert status_of(message.message_id)["status"] == "queued"


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "x", ""])
def test_an_unknown_task_has_neither_status_nor_result(broker: PostgresBroker, task_id: str) -> None:
    assert get_task_status(task_id) is None
    assert get_task_result(task_id) is None


@pytest.mark.usefixtures("worker")
def test_status_and_result_follow_the_task(add: Any) -> None:
    good, nothing, bad = (add.send(first).message_id for first in (3, 0, -1))
    for task_id, state in ((good, "succeeded"), (nothing, "succeeded"), (bad, "failed")):
        eventually(lambda task_id=task_id, state=state: status_of(task_id)["status"] == state)

    assert [get_task_result(task_id) for task_id in (good, nothing, bad)] == [3, None, None]
    shown = status_of(good)
    assert (shown["name"], shown["progress"], shown["attempt"]) == ("add", 100, 1)
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    assert status_of(bad)["error_message"] == "ValueError: below zero"


@pytest.mark.usefixtures("worker")
def test_a_result_can_be_waited_for(add: Any) -> None:
    task_id = add.send(3, 4).message_id

    assert get_task_result(task_id, block=True) == 7
    assert get_task_result(task_id, True, 1) == 7
    assert get_task_result(add.send(0).message_id, block=True) is None


def test_waiting_for_an_unknown_task_says_so_at_once(broker: PostgresBroker) -> None:
    for task_id in ("00000000-0000-4000-8000-000000000000", "x"):
        with pytest.raises(TaskNotFound, match=task_id):
            get_task_result(task_id, block=True)


def test_waiting_ends_with_an_error_when_the_time_is_over(add: Any) -> None:
    task_id = add.send(1).message_id

    with pytest.raises(ResultTimeout, match=f"The task {task_id} has not ended in time"):
        get_task_result(task_id, block=True, timeout=50)
    assert get_task_result(task_id) is None


@pytest.mark.usefixtures("worker")
def test_who_waits_for_a_task_that_fails_gets_to_know_how(add: Any) -> None:
    task_id = add.send(-1).message_id

    with pytest.raises(TaskNotSucceeded, match=f"The task {task_id} is failed: ValueError: below zero") as raised:
        get_task_result(task_id, block=True)

    assert (raised.value.task_id, raised.value.state, raised.value.error) == (
        task_id,
        "failed",
        "ValueError: below zero",
    )


def test_who_waits_for_a_task_that_is_cancelled_gets_to_know_while_waiting(add: Any) -> None:
    task_id = add.send(1).message_id
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(get_task_result, task_id, block=True, timeout=20_000)
        eventually(lambda: any(thread.name == "pipeline-results" for thread in threading.enumerate()))

        pipeline.cancel(task_id, who="ada", reason="no more")

        with pytest.raises(TaskNotSucceeded, match="is cancelled: Cancelled: no more"):
            waiting.result(timeout=10)


@pytest.mark.usefixtures("worker")
def test_who_waits_for_a_task_that_is_skipped_gets_to_know(broker: PostgresBroker) -> None:
    @pipeline.actor(max_age=1)
    def late() -> int:
        return 1

    task_id = late.send_with_options(delay=50).message_id

    with pytest.raises(TaskNotSucceeded, match="is skipped"):
        get_task_result(task_id, block=True)


def test_the_end_of_a_task_that_was_let_run_again_is_waited_for(add: Any, broker: PostgresBroker) -> None:
    task_id = add.send(1).message_id
    pipeline.cancel(task_id, who="ada")
    pipeline.retry_now(task_id, who="ada")
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(get_task_result, task_id, block=True, timeout=20_000)
        with working(broker):
            assert waiting.result(timeout=20) == 1


@pytest.mark.usefixtures("worker")
def test_an_expired_result_is_gone_and_the_task_stays_succeeded(broker: PostgresBroker) -> None:
    @pipeline.actor(result_ttl=100)
    def brief() -> int:
        return 1

    task_id = brief.send().message_id
    eventually(lambda: status_of(task_id)["status"] == "succeeded")

    eventually(lambda: get_task_result(task_id) is None)
    assert (status_of(task_id)["status"], status_of(task_id)["result"]) == ("succeeded", None)
    assert get_task_result(task_id, block=True) is None


@pytest.mark.usefixtures("worker")
def test_each_actor_keeps_its_results_for_its_own_time(broker: PostgresBroker, rows: Ask) -> None:
    @pipeline.actor(result_ttl=60_000)
    def minute() -> int:
        return 1

    @pipeline.actor(result_ttl=86_400_000)
    def day() -> int:
        return 1

    for each in (minute, day):
        get_task_result(each.send().message_id, block=True)

    kept = "SELECT extract(epoch FROM result_until - finished_at)::int FROM pipeline.attempt ORDER BY 1"
    assert [seconds for (seconds,) in rows(kept)] == [60, 86_400]


def test_waiting_works_without_a_result_backend_of_ours(settings: Settings) -> None:
    with global_broker(PostgresBroker(settings=settings, middleware=[])) as other:

        @pipeline.actor
        def quiet() -> int:
            return 1

        task_id = quiet.send().message_id
        with working(other):
            assert get_task_result(task_id, block=True) is None


def test_progress_of_a_task_from_outside(add: Any) -> None:
    task_id = add.send(1).message_id

    update_task_progress(task_id, 40, "zwei\0 von fünf")

    assert (status_of(task_id)["progress"], status_of(task_id)["note"]) == (
        40,
        "zwei\N{REPLACEMENT CHARACTER} von fünf",
    )


def test_progress_is_refused_where_it_makes_no_sense(add: Any) -> None:
    for task_id in ("00000000-0000-4000-8000-000000000000", "x"):
        with pytest.raises(TaskNotFound):
            update_task_progress(task_id, 1)
    task_id = add.send(1).message_id
    for progress in (-1, 101):
        with pytest.raises(ValueError, match="from 0 to 100"):
            update_task_progress(task_id, progress)


@pytest.mark.usefixtures("worker")
def test_progress_of_a_running_task(broker: PostgresBroker, gate: Any) -> None:
    @pipeline.actor
    def count() -> None:
        task_id = pipeline.current_task().task_id
        for number in range(1, 4):
            update_task_progress(task_id, number * 10, f"{number}/3 \ud800")
        gate.wait(20)

    task_id = count.send().message_id

    eventually(lambda: status_of(task_id)["progress"] == 30)
    assert (status_of(task_id)["status"], status_of(task_id)["note"]) == ("running", "3/3 ?")
    gate.set()
    eventually(lambda: status_of(task_id)["progress"] == 100)


@pytest.fixture
def gate() -> Iterator[Any]:
    from threading import Event

    event = Event()
    yield event
    event.set()


@pytest.mark.usefixtures("worker")
def test_a_retry_waits_one_two_four_eight_and_sixteen_minutes(broker: PostgresBroker, rows: Ask) -> None:
    @pipeline.actor(max_retries=5)
    def fetch() -> None:
        retry_task_with_exponential_backoff(pipeline.current_task(), exc=ConnectionError("mail server away"))

    task_id = fetch.send().message_id
    for attempt in range(1, 7):
        eventually(lambda attempt=attempt: status_of(task_id)["attempt"] == attempt)
        rows("UPDATE pipeline.ready SET eta = clock_timestamp()")  # instead of waiting for minutes

    question = "SELECT extract(epoch FROM next_eta - finished_at) FROM pipeline.attempt_history ORDER BY run"
    delays = [None if seconds is None else round(float(seconds) / 60) for (seconds,) in rows(question)]
    assert delays == [1, 2, 4, 8, 16, None]
    assert status_of(task_id)["status"] == "failed"
    assert {error for (error,) in rows("SELECT error_type FROM pipeline.attempt_history")} == {"ConnectionError"}


@pytest.mark.usefixtures("worker")
def test_what_is_never_retried_is_raised_as_it_is(broker: PostgresBroker, rows: Ask) -> None:
    @pipeline.actor(max_retries=5, throws=(LookupError,))
    def look() -> None:
        retry_task_with_exponential_backoff(exc=LookupError("no such order"))

    task_id = look.send().message_id

    eventually(lambda: status_of(task_id)["status"] == "failed")
    assert status_of(task_id)["error"] == "LookupError: no such order"
    assert status_of(task_id)["attempt"] == 1


def test_outside_a_task_there_is_nothing_to_retry(broker: PostgresBroker) -> None:
    with pytest.raises(NoCurrentTask):
        retry_task_with_exponential_backoff()
    with pytest.raises(OSError, match="away"):
        retry_task_with_exponential_backoff(exc=OSError("away"))
