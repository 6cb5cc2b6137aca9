"""Dramatiq's documented behaviour, as a project that was written for another broker expects it."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.results import ResultFailure, ResultMissing

from pipeline import PostgresBroker
from pipeline.errors import ConfigurationError
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


def outcomes(rows) -> list[str]:
    return [outcome for (outcome,) in rows("SELECT outcome FROM pipeline.attempt_history ORDER BY task_id, run")]


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_broker_made_with_a_url_only_runs_a_plain_actor(make_broker) -> None:
    broker = make_broker()

    @dramatiq.actor
    def add(x: int, y: int) -> int:
        return x + y

    with working(broker):
        assert add.send(1, y=2).get_result(block=True) == 3


def test_a_delay_in_milliseconds_is_an_eta(broker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send_with_options(delay=60_000)

    assert rows("SELECT state, round(extract(epoch FROM eta - created_at)) FROM pipeline.task_status") == [
        ("scheduled", 60)
    ]


def test_a_delay_may_be_a_timedelta(broker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send_with_options(delay=timedelta(minutes=2))

    assert rows("SELECT state, round(extract(epoch FROM eta - created_at)) FROM pipeline.task_status") == [
        ("scheduled", 120)
    ]


def test_a_delayed_task_runs_when_it_is_due_and_not_before(broker, worker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send_with_options(delay=300).get_result(block=True)

    assert rows(
        "SELECT bool_and(h.started_at >= s.created_at + interval '300 ms') "
        "FROM pipeline.attempt_history h JOIN pipeline.task_status s USING (task_id)"
    ) == [(True,)]


def test_a_lower_priority_number_runs_first_and_a_message_may_have_its_own(broker) -> None:
    ran: list[str] = []

    @dramatiq.actor(priority=10)
    def note(name: str) -> None:
        ran.append(name)

    note.send("actor's own, first")
    note.send_with_options(args=("last",), priority=20)
    note.send("actor's own, second")
    note.send_with_options(args=("first",), priority=0)
    with working(broker, threads=1):
        broker.join("default", timeout=5_000)

    assert ran == ["first", "actor's own, first", "actor's own, second", "last"]


def test_an_unknown_queue_is_refused_at_send(broker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    with pytest.raises(QueueNotFound):
        broker.enqueue(noop.message().copy(queue_name="nowhere"))
    assert rows("SELECT 1 FROM pipeline.task_status") == []


def test_the_same_message_sent_twice_while_it_waits_is_one_task(broker, rows) -> None:
    @dramatiq.actor
    def noop(x: int) -> None: ...

    message = noop.message(1)
    broker.enqueue(message)
    broker.enqueue(message.copy(args=(2,)))

    assert rows("SELECT args::text FROM pipeline.task_status") == [("[2]",)]


def test_a_finished_message_sent_again_is_a_new_run_of_the_same_task(broker, worker, history) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    message = noop.send()
    message.get_result(block=True)
    broker.enqueue(message)

    eventually(lambda: history() == [(1, 1, "succeeded"), (2, 2, "succeeded")])


def test_send_many_is_all_or_none(broker, rows) -> None:
    @dramatiq.actor
    def noop(x: Any) -> None: ...

    with pytest.raises(ValueError, match="NaN"):
        broker.send_many([noop.message(1), noop.message(float("nan"))])
    assert rows("SELECT 1 FROM pipeline.task_status") == []

    broker.send_many([noop.message(x) for x in range(5_000)])
    assert rows("SELECT count(*) FROM pipeline.task_status") == [(5_000,)]


def test_one_message_twice_in_a_batch_is_one_task_with_the_later_arguments(broker, rows) -> None:
    @dramatiq.actor
    def noop(x: int) -> None: ...

    message = noop.message(1)
    broker.send_many([message, noop.message(7), message.copy(args=(2,))])

    assert sorted(rows("SELECT args::text FROM pipeline.task_status")) == [("[2]",), ("[7]",)]


# --- kinds of actors --------------------------------------------------------------------------------------------------


def test_a_class_based_actor_runs(broker, worker) -> None:
    class Greet(dramatiq.GenericActor):
        class Meta:
            queue_name = "greetings"

        def perform(self, name: str) -> str:
            return f"Hello {name}"

    assert Greet.send("World").get_result(block=True) == "Hello World"


def test_an_async_actor_runs(broker) -> None:
    @dramatiq.actor
    async def add(x: int, y: int) -> int:
        return x + y

    with working(broker):
        assert add.send(1, 2).get_result(block=True) == 3


def test_an_async_actor_declared_while_the_worker_runs_runs_too(broker, worker) -> None:
    @dramatiq.actor
    async def add(x: int, y: int) -> int:
        return x + y

    assert add.send(1, 2).get_result(block=True) == 3


def test_an_async_actor_knows_its_current_task(broker) -> None:
    from pipeline import current_task

    @dramatiq.actor
    async def who() -> str:
        return current_task().task_id

    with working(broker):
        message = who.send()
        assert message.get_result(block=True) == message.message_id


def test_what_an_async_actor_sends_and_then_fails_was_still_sent(broker, states) -> None:
    """Only transactional actors take their sends back."""

    @dramatiq.actor
    def child() -> None: ...

    @dramatiq.actor(max_retries=0)
    async def parent() -> None:
        child.send()
        raise ValueError

    with working(broker):
        parent.send()
        broker.join("default", timeout=5_000)

    assert states() == ["failed", "succeeded"]


def test_an_actor_called_like_a_function_is_one(broker, rows) -> None:
    @dramatiq.actor
    def add(x: int, y: int) -> int:
        return x + y

    assert add(1, 2) == 3
    assert rows("SELECT 1 FROM pipeline.task_status") == []


def test_the_current_message_is_known_inside_an_actor(broker, worker) -> None:
    from dramatiq.middleware import CurrentMessage

    @dramatiq.actor
    def who() -> str:
        return CurrentMessage.get_current_message().message_id

    message = who.send()

    assert message.get_result(block=True) == message.message_id


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_on_success_gets_the_message_and_the_result(broker, worker) -> None:
    got: list[Any] = []
    has_run = threading.Event()

    @dramatiq.actor
    def callback(message: dict[str, Any], result: int) -> None:
        got.append((message["actor_name"], message["args"], result))
        has_run.set()

    @dramatiq.actor(on_success="callback")
    def double(x: int) -> int:
        return 2 * x

    double.send(4)

    assert has_run.wait(5)
    assert got == [("double", [4], 8)]


def test_on_failure_runs_after_each_failed_attempt(broker, worker, states) -> None:
    got: list[Any] = []

    @dramatiq.actor
    def callback(message: dict[str, Any], error: dict[str, str]) -> None:
        got.append((message["actor_name"], error))

    @dramatiq.actor(on_failure=callback.actor_name, max_retries=1, min_backoff=1)
    def fail() -> None:
        raise ValueError("no")

    fail.send()

    eventually(lambda: states() == ["failed", "succeeded", "succeeded"])
    assert got == [("fail", {"type": "ValueError", "message": "no"})] * 2


def test_callbacks_may_be_chosen_per_message(broker, worker, states) -> None:
    @dramatiq.actor
    def callback(message: Any, result: Any) -> None: ...

    @dramatiq.actor
    def noop() -> None: ...

    noop.send_with_options(on_success=callback)

    eventually(lambda: states() == ["succeeded", "succeeded"])


def test_a_callback_that_cannot_be_encoded_is_the_tasks_failure(broker, worker, rows) -> None:
    """Dramatiq would swallow the error and lose the callback of a task that succeeded."""

    @dramatiq.actor
    def callback(message: Any, result: Any) -> None: ...

    @dramatiq.actor(on_success="callback", store_results=False, max_retries=0)
    def give() -> object:
        return object()

    give.send()

    broker.join("default", timeout=5_000)
    assert rows("SELECT state, error FROM pipeline.task_status WHERE error LIKE 'MessageNotEncodable:%'") != []


# --- retries ----------------------------------------------------------------------------------------------------------


def test_on_retry_exhausted_gets_the_message_and_the_counts(broker, worker) -> None:
    got: list[Any] = []
    has_run = threading.Event()

    @dramatiq.actor
    def give_up(message: dict[str, Any], counts: dict[str, int]) -> None:
        got.append((message["actor_name"], counts))
        has_run.set()

    @dramatiq.actor(max_retries=2, min_backoff=1, on_retry_exhausted="give_up")
    def fail() -> None:
        raise ValueError

    fail.send()

    assert has_run.wait(5)
    assert got == [("fail", {"retries": 2, "max_retries": 2})]


def test_what_an_actor_throws_on_purpose_is_not_retried(broker, worker, history) -> None:
    @dramatiq.actor(throws=(KeyError, ValueError))
    def fail() -> None:
        raise ValueError

    with pytest.raises(ResultFailure):
        fail.send().get_result(block=True)

    assert history() == [(1, 1, "failed")]


def test_retry_when_decides_instead_of_max_retries(broker, worker, history) -> None:
    @dramatiq.actor(max_retries=0, min_backoff=1, retry_when=lambda retries, error: retries < 2)
    def fail() -> None:
        raise ValueError

    with pytest.raises(ResultFailure):
        fail.send().get_result(block=True)

    assert history() == [(1, 1, "retry"), (2, 2, "retry"), (3, 3, "failed")]


def test_an_actor_may_ask_for_a_retry_after_its_own_delay(broker, worker, rows) -> None:
    @dramatiq.actor
    def later() -> None:
        raise dramatiq.Retry("not yet", delay=60_000)

    later.send()

    eventually(lambda: outcomes(rows) == ["retry"])
    assert rows("SELECT round(extract(epoch FROM next_eta - finished_at)) FROM pipeline.attempt_history") == [(60,)]


def test_a_retry_runs_with_the_same_arguments_and_options(broker, worker) -> None:
    seen: list[Any] = []

    @dramatiq.actor(min_backoff=1)
    def flaky(x: int, *, y: int) -> int:
        seen.append((x, y))
        if len(seen) < 3:
            raise ValueError
        return x + y

    assert flaky.send_with_options(args=(1,), kwargs={"y": 2}, max_retries=2).get_result(block=True) == 3
    assert seen == [(1, 2)] * 3


def test_max_retries_of_a_message_counts_more_than_the_actors(broker, worker, history) -> None:
    @dramatiq.actor(max_retries=5, min_backoff=1)
    def fail() -> None:
        raise ValueError

    with pytest.raises(ResultFailure):
        fail.send_with_options(max_retries=1).get_result(block=True)

    assert history() == [(1, 1, "retry"), (2, 2, "failed")]


def test_an_exception_that_cannot_be_written_as_text_fails_the_task(broker, worker, history) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @dramatiq.actor(max_retries=0)
    def fail() -> None:
        raise Unprintable

    with pytest.raises(ResultFailure):
        fail.send().get_result(block=True, timeout=3_000)

    assert history() == [(1, 1, "failed")]


def test_a_system_exit_in_an_actor_is_its_failure_and_not_the_workers(broker, worker, history) -> None:
    @dramatiq.actor(max_retries=0)
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(ResultFailure, match="SystemExit"):
        leave.send().get_result(block=True)

    assert history() == [(1, 1, "failed")]


def test_an_actor_that_enqueues_its_own_message_runs_again(broker, worker, history) -> None:
    from dramatiq.middleware import CurrentMessage

    @dramatiq.actor
    def twice() -> str:
        message = CurrentMessage.get_current_message()
        if not message.options.get("again"):
            broker.enqueue(message.copy(options={"again": True}))
        return "done"

    message = twice.send()

    assert message.get_result(block=True) == "done"
    assert history() == [(1, 1, "retry"), (2, 2, "succeeded")]


def test_a_message_too_old_is_skipped_and_its_result_is_a_failure(broker, rows, states) -> None:
    ran = threading.Event()

    @dramatiq.actor(max_age=1)
    def noop() -> None:
        ran.set()

    message = noop.send()
    eventually(
        lambda: rows("SELECT 1 FROM pipeline.task_status WHERE clock_timestamp() > created_at + interval '50 ms'")
    )
    with working(broker), pytest.raises(ResultFailure):
        message.get_result(block=True)

    assert states() == ["skipped"]
    assert not ran.is_set()


# --- what tests and tools call ----------------------------------------------------------------------------------------


def test_join_waits_for_delayed_tasks_too(broker, worker, states) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send_with_options(delay=300)

    broker.join("default", timeout=5_000)
    assert states() == ["succeeded"]


def test_join_gives_up_after_its_timeout(broker) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send()

    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=100)


def test_flush_empties_one_queue(broker, rows) -> None:
    @dramatiq.actor(queue_name="one")
    def one() -> None: ...

    @dramatiq.actor(queue_name="two")
    def two() -> None: ...

    one.send()
    one.send_with_options(delay=60_000)
    two.send()
    broker.flush("one")

    assert sorted(rows("SELECT queue, state FROM pipeline.task_status")) == [
        ("one", "cancelled"),
        ("one", "cancelled"),
        ("two", "queued"),
    ]


def test_flush_all_empties_every_declared_queue(broker, states) -> None:
    @dramatiq.actor(queue_name="one")
    def one() -> None: ...

    @dramatiq.actor(queue_name="two")
    def two() -> None: ...

    one.send()
    two.send()
    broker.flush_all()

    assert states() == ["cancelled", "cancelled"]


@pytest.mark.parametrize("method", ["flush", "join", "consume"])
def test_an_undeclared_queue_is_an_error(broker, method) -> None:
    with pytest.raises(QueueNotFound):
        getattr(broker, method)("nowhere")


def test_declared_queues_and_actors_are_listed(broker) -> None:
    @dramatiq.actor(queue_name="one")
    def one() -> None: ...

    assert broker.get_declared_queues() == {"one"}
    assert broker.get_declared_delay_queues() == set()
    assert broker.get_declared_actors() == {"one"}


def test_the_results_backend_is_ours(broker) -> None:
    assert isinstance(broker.get_results_backend(), dramatiq.results.ResultBackend)
    assert type(broker.get_results_backend()).__name__ == "PostgresResultBackend"


def test_an_unknown_actor_option_is_refused_at_declaration(broker) -> None:
    with pytest.raises(ValueError, match="colour"):

        @dramatiq.actor(colour="red")
        def noop() -> None: ...


def test_a_second_broker_with_another_inbox_is_refused(broker, database_url) -> None:
    """dramatiq-pg keeps the text of its statements in a global."""
    with pytest.raises(ConfigurationError, match="inbox"):
        PostgresBroker(url=database_url, inbox_schema="elsewhere")


# --- the worker -------------------------------------------------------------------------------------------------------


def test_a_paused_worker_claims_nothing_and_a_resumed_one_goes_on(broker, worker, states, monkeypatch) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.05)

    @dramatiq.actor
    def noop() -> None: ...

    worker.pause()
    messages = [noop.send() for _ in range(10)]
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=300)
    assert states() == ["queued"] * 10

    worker.resume()
    broker.join("default", timeout=5_000)
    assert [message.get_result() for message in messages] == [None] * 10


def test_a_paused_worker_gives_back_what_it_has_not_started(broker, rows, monkeypatch) -> None:
    """Another one may have time for it."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.05)
    monkeypatch.setattr("pipeline.broker.pace._STALLED_SECONDS", 60)
    monkeypatch.setattr("pipeline.broker.pace.Pace.target", lambda self: 6)
    has_begun, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def wait() -> None:
        has_begun.set()
        may_end.wait(20)

    messages = [wait.send() for _ in range(6)]
    with working(broker, threads=1) as worker:
        assert has_begun.wait(5)
        assert rows("SELECT count(*) FROM pipeline.ready") == [(0,)]
        pausing = threading.Thread(target=worker.pause)  # returns when the threads have paused
        pausing.start()
        eventually(lambda: rows("SELECT count(*) FROM pipeline.ready") == [(5,)])

        may_end.set()
        pausing.join()
        worker.resume()
        assert [message.get_result(block=True, timeout=10_000) for message in messages] == [None] * 6


def test_a_worker_takes_only_the_queues_it_was_given(broker, states) -> None:
    @dramatiq.actor(queue_name="mine")
    def mine() -> None: ...

    @dramatiq.actor(queue_name="theirs")
    def theirs() -> None: ...

    theirs.send()
    message = mine.send()
    with working(broker, queues={"mine"}):
        message.get_result(block=True)

    assert states() == ["queued", "succeeded"]


def test_a_second_worker_on_one_broker_is_refused(broker, worker) -> None:
    second = dramatiq.Worker(broker, worker_threads=1)

    with pytest.raises(ConfigurationError, match="already runs a worker"):
        second.start()


def test_a_worker_may_be_stopped_and_another_started(broker, states) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    for _ in range(2):
        with working(broker):
            noop.send().get_result(block=True)

    assert states() == ["succeeded", "succeeded"]


def test_an_actor_and_queue_declared_while_the_worker_runs_are_served(broker, worker) -> None:
    @dramatiq.actor(queue_name="brand-new")
    def late() -> str:
        return "yes"

    assert late.send().get_result(block=True) == "yes"


def test_a_result_is_missing_before_the_task_ran(broker) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    with pytest.raises(ResultMissing):
        noop.send().get_result()
