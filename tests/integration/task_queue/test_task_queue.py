"""The five functions that existing code calls."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker, TaskNotFound
from pipeline.errors import NoCurrentTask
from pipeline.task_queue import (
    enqueue_task_after_transaction,
    get_task_result,
    get_task_status,
    retry_task_with_exponential_backoff,
    update_task_progress,
)
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
