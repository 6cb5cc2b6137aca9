"""PIPELINE_EAGER: tasks run where they are sent, in this thread, without a worker and without a database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ActorNotFound, Retry
from dramatiq.results import ResultFailure, ResultMissing

from pipeline import PostgresBroker, chain, current_task, group, send_many, task_queue
from pipeline.errors import ConfigurationError, MessageNotEncodable, MessageTooLarge, NotTransactional, TasksWithoutEnd
from pipeline.runtime import actor
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker

#: Nobody listens on port 1: whoever asks the database fails.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def broker() -> Iterator[PostgresBroker]:
    settings = Settings(database_url=NOWHERE, eager=True)
    with global_broker(PostgresBroker(settings=settings)) as made:
        yield made


@pytest.fixture
def quiet_broker() -> Iterator[PostgresBroker]:
    """One that keeps errors to itself."""
    settings = Settings(database_url=NOWHERE, eager=True, eager_propagates=False)
    with global_broker(PostgresBroker(settings=settings)) as made:
        yield made


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.mark.usefixtures("broker")
def test_a_task_runs_at_once_in_the_senders_thread(seen: list[Any]) -> None:
    @actor
    def note(value: int) -> int:
        task = current_task()
        seen.append((value, threading.current_thread(), task.attempt, task.run, task.queue))
        return value + 1

    message = note.send(1)

    assert seen == [(1, threading.current_thread(), 1, 1, "default")]
    assert message.get_result() == 2
    assert message.get_result(block=True) == 2


@pytest.mark.usefixtures("broker")
def test_the_task_of_a_run_is_the_message_that_was_sent(seen: list[Any]) -> None:
    @actor
    def note() -> None:
        seen.append(current_task().task_id)

    assert [note.send().message_id] == seen
    with pytest.raises(Exception, match="no current task"):
        current_task()


@pytest.mark.usefixtures("broker")
def test_labels_are_looked_at_and_a_correlation_id_is_handed_on(seen: list[Any]) -> None:
    @actor(tags=["a"], entity=lambda: ("order", 1))
    def note() -> None:
        seen.append(current_task().correlation_id)

    @actor
    def act() -> None:
        note.send()

    (act.message_with_options(tags={"b"}, correlation_id="c1") | note.message_with_options(pipe_ignore=True)).run()

    assert seen == ["c1", "c1"]
    with pytest.raises(MessageNotEncodable, match="the entity"):
        note.send_with_options(entity="order")


@pytest.mark.usefixtures("broker")
def test_arguments_and_results_go_through_json(seen: list[Any]) -> None:
    @actor
    def note(value: Any) -> Any:
        seen.append(value)
        return (1, 2)

    assert note.send((1, {2: 3})).get_result() == [1, 2]
    assert seen == [[1, {"2": 3}]]
    with pytest.raises(MessageNotEncodable):
        note.send(object())
    with pytest.raises(MessageTooLarge):
        note.send("x" * 2_000_000)
    assert len(seen) == 1


@pytest.mark.usefixtures("broker")
def test_delays_and_priorities_are_ignored(seen: list[Any]) -> None:
    @actor(priority=9)
    def note(value: int) -> None:
        seen.append(value)

    note.send_with_options(args=(1,), delay=3_600_000)
    send_many([note.message(2), note.message_with_options(args=(3,), priority=0)], delay=60_000)

    assert seen == [1, 2, 3]


@pytest.mark.usefixtures("broker")
def test_an_error_reaches_the_sender_itself_and_not_a_copy() -> None:
    error = ValueError("no")

    @actor(max_retries=0)
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        fail.send()

    assert caught.value is error


def test_without_propagation_the_task_just_fails(quiet_broker: PostgresBroker) -> None:
    @actor(max_retries=0)
    def fail() -> None:
        raise ValueError("no")

    message = fail.send()

    with pytest.raises(ResultFailure, match="no"):
        message.get_result()


@pytest.mark.usefixtures("broker")
def test_retries_come_at_once_until_one_succeeds(seen: list[Any]) -> None:
    @actor(min_backoff=3_600_000)
    def stumble() -> str:
        seen.append((current_task().run, current_task().attempt))
        if len(seen) < 3:
            raise ConnectionError("away")
        return "done"

    assert stumble.send().get_result() == "done"
    assert seen == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.usefixtures("broker")
def test_retries_end_where_the_actor_says_and_the_last_error_is_raised(seen: list[Any]) -> None:
    @actor
    def give_up(message: dict[str, Any], numbers: dict[str, int]) -> None:
        seen.append(numbers)

    @actor(max_retries=2, on_retry_exhausted="give_up")
    def fail() -> None:
        seen.append(current_task().attempt)
        raise Retry(f"attempt {current_task().attempt}", delay=1000)

    with pytest.raises(Retry, match="attempt 3"):
        fail.send()

    assert seen == [1, 2, 3, {"retries": 2, "max_retries": 2}]


@pytest.mark.usefixtures("broker")
def test_expected_errors_are_not_retried_and_are_raised(seen: list[Any]) -> None:
    @actor(throws=(KeyError,))
    def fail() -> None:
        seen.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        fail.send()

    assert seen == [1]


@pytest.mark.usefixtures("broker")
def test_a_chain_hands_results_on_and_ends_at_a_failure(seen: list[Any]) -> None:
    @actor(max_retries=0)
    def add(a: int, b: int) -> int:
        seen.append((a, b))
        if a + b > 9:
            raise OverflowError
        return a + b

    assert chain([add.message(1, 2), add.message(3), add.message(1)]).run().get_result() == 7
    seen.clear()

    stopped = chain([add.message(9, 9), add.message(1)])
    with pytest.raises(OverflowError):
        stopped.run()
    assert seen == [(9, 9)]
    with pytest.raises(ResultMissing):
        stopped.messages[1].get_result()


@pytest.mark.usefixtures("broker")
def test_a_chain_of_hundreds_is_no_endless_one() -> None:
    @actor
    def add(a: int, b: int) -> int:
        return a + b

    assert chain([add.message(0, 1), *(add.message(1) for _ in range(400))]).run().get_result() == 401


@pytest.mark.usefixtures("broker")
def test_a_group_calls_back_when_its_last_member_has_succeeded(seen: list[Any]) -> None:
    @actor
    def member(value: int) -> int:
        seen.append(value)
        return value * 2

    @actor
    def called_back() -> None:
        seen.append("all")

    both = group(
        [member.message(1), chain([member.message(2), member.message_with_options(args=(), pipe_ignore=False)])]
    )
    both.add_completion_callback(called_back.message())
    both.run()

    assert seen == [1, 2, 4, "all"]
    assert list(both.get_results()) == [2, 8]


@pytest.mark.usefixtures("broker")
def test_a_group_with_a_failure_runs_the_others_and_does_not_call_back(seen: list[Any]) -> None:
    @actor(max_retries=0)
    def member(value: int) -> None:
        seen.append(value)
        if value == 1:
            raise ValueError(value)

    @actor
    def called_back() -> None:
        seen.append("all")

    several = group(member.message(value) for value in (1, 2, 3))
    several.add_completion_callback(called_back.message())
    with pytest.raises(ValueError, match="1"):
        several.run()

    assert seen == [1, 2, 3]


@pytest.mark.usefixtures("broker")
def test_callbacks_run_after_the_task(seen: list[Any]) -> None:
    @actor
    def succeeded(message: dict[str, Any], result: int) -> None:
        seen.append(("succeeded", message["actor_name"], result))

    @actor
    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        seen.append(("failed", error["type"]))

    @actor(on_success="succeeded", on_failure="failed", max_retries=0)
    def work(value: int) -> float:
        seen.append("work")
        return 6 / value

    work.send(2)
    with pytest.raises(ZeroDivisionError):
        work.send(0)

    assert seen == ["work", ("succeeded", "work", 3.0), "work", ("failed", "ZeroDivisionError")]


@pytest.mark.usefixtures("broker")
def test_a_send_inside_an_actor_runs_inside_it_and_leaves_it_its_task(seen: list[Any]) -> None:
    @actor
    def inner() -> str:
        seen.append("inner")
        return "result"

    @actor
    def outer() -> None:
        own = current_task()
        seen.append(inner.send().get_result())
        assert current_task() is own
        seen.append("outer")

    outer.send()

    assert seen == ["inner", "result", "outer"]


@pytest.mark.usefixtures("broker")
def test_a_failure_inside_does_not_fail_the_task_that_sent_it_but_reaches_the_first_sender(seen: list[Any]) -> None:
    @actor(max_retries=0)
    def inner() -> None:
        raise ValueError("inner")

    @actor
    def outer() -> None:
        seen.append("begun")
        inner.send()
        seen.append("ended")

    with pytest.raises(ValueError, match="inner"):
        outer.send()

    assert seen == ["begun", "ended"]


@pytest.mark.parametrize("propagates", [True, False])
def test_an_actor_that_sends_itself_for_ever_is_stopped(propagates: bool) -> None:
    settings = Settings(database_url=NOWHERE, eager=True, eager_propagates=propagates)
    with global_broker(PostgresBroker(settings=settings)):
        runs = []

        @actor
        def again() -> None:
            runs.append(1)
            again.send()

        with pytest.raises(TasksWithoutEnd, match="again keep coming"):
            again.send()

    assert len(runs) == 30


def test_tasks_that_follow_from_each_other_for_ever_are_stopped(broker: PostgresBroker, seen: list[Any]) -> None:
    class SendsAnother(dramatiq.Middleware):
        def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
            seen.append(1)
            again.send()

    broker.add_middleware(SendsAnother())

    @actor
    def again() -> None: ...

    with pytest.raises(TasksWithoutEnd, match="1000 tasks"):
        again.send()

    assert len(seen) == 1000


def test_a_task_that_asks_for_another_run_for_ever_is_stopped(broker: PostgresBroker, seen: list[Any]) -> None:
    @actor
    def poll() -> None:
        seen.append(1)
        broker.enqueue(current_task().message._message)

    with pytest.raises(TasksWithoutEnd, match="1000 runs of one task"):
        poll.send()

    assert len(seen) == 1000


@pytest.mark.usefixtures("broker")
def test_async_actors_run_too_also_when_sent_from_a_loop(seen: list[Any]) -> None:
    @actor
    async def note(value: int) -> str:
        await asyncio.sleep(0)
        seen.append((value, current_task().actor))
        return "done"

    async def send() -> Any:
        return note.send(2).get_result()

    assert note.send(1).get_result() == "done"
    assert asyncio.run(send()) == "done"
    assert seen == [(1, "note"), (2, "note")]


@pytest.mark.usefixtures("broker")
def test_progress_can_be_reported_and_is_shown_nowhere() -> None:
    @actor
    def work() -> str:
        current_task().progress(50, "half")
        task_queue.update_task_progress(current_task().task_id, 60)
        return "done"

    assert work.send().get_result() == "done"


@pytest.mark.usefixtures("broker")
def test_an_old_message_is_skipped(seen: list[Any]) -> None:
    @actor(max_age=1)
    def note() -> None:
        seen.append(1)

    message = note.message().copy()
    object.__setattr__(message, "message_timestamp", 0)
    dramatiq.get_broker().enqueue(message)

    assert seen == []


@pytest.mark.usefixtures("broker")
def test_a_result_that_cannot_be_written_is_the_tasks_failure() -> None:
    @actor(max_retries=0)
    def work() -> Any:
        return object()

    with pytest.raises(MessageNotEncodable):
        work.send()


@pytest.mark.usefixtures("broker")
def test_only_transactional_actors_have_a_session() -> None:
    @actor(max_retries=0)
    def work() -> None:
        assert current_task().session

    with pytest.raises(NotTransactional):
        work.send()


def test_the_end_of_the_program_is_not_retried(broker: PostgresBroker, seen: list[Any]) -> None:
    @actor
    def stop() -> None:
        seen.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop.send()

    assert seen == [1]


def test_hooks_of_other_middleware_run_in_their_order(broker: PostgresBroker, seen: list[Any]) -> None:
    class Witness(dramatiq.Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            seen.append(("enqueue", delay))

        def before_process_message(self, broker: Any, message: Any) -> None:
            seen.append("before")

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            seen.append(("after", result))

        def after_ack(self, broker: Any, message: Any) -> None:
            seen.append("ack")

    broker.add_middleware(Witness())

    @actor
    def work() -> int:
        seen.append("work")
        return 7

    work.send_with_options(delay=5)

    assert seen == [("enqueue", 5), "before", "work", ("after", 7), "ack"]


@pytest.mark.usefixtures("broker")
def test_a_message_for_an_actor_that_is_not_declared_here_is_refused() -> None:
    @actor
    def known() -> None: ...

    with pytest.raises(ActorNotFound):
        dramatiq.get_broker().enqueue(known.message().copy(actor_name="unknown"))


def test_no_worker_starts(broker: PostgresBroker) -> None:
    worker = dramatiq.Worker(broker, worker_threads=1)

    with pytest.raises(ConfigurationError, match="PIPELINE_EAGER"):
        worker.start()


def test_it_is_off_unless_asked_for() -> None:
    assert not Settings().eager
    assert Settings().eager_propagates
    assert PostgresBroker(settings=Settings(database_url=NOWHERE)).eager is None
