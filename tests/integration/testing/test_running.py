"""run_pending and drain: a worker's machinery in the test's own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ActorNotFound
from sqlalchemy import text

from pipeline import (
    PostgresBroker,
    QueueUnknown,
    actor,
    chain,
    current_task,
    enlist,
    group,
    pause_queue,
    pause_tenant,
)
from pipeline.errors import ConfigurationError, TasksWithoutEnd
from pipeline.settings import Settings
from pipeline.states import Outcome
from pipeline.testing import drain, enqueued, run_pending
from tests.fixtures.broker import global_broker, working

pytestmark = pytest.mark.usefixtures("broker")

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def note(broker: PostgresBroker, seen: list[Any]) -> Any:
    @actor
    def note(value: Any = None) -> Any:
        seen.append(value)
        return value

    return note


def test_what_is_due_runs_in_this_thread_in_its_order(
    note: Any, seen: list[Any], states: Callable[[], list[str]]
) -> None:
    @actor(priority=-1)
    def first() -> None:
        seen.append(threading.current_thread())

    note.send((1, 2))
    message = first.send()
    runs = run_pending()

    assert seen == [threading.current_thread(), [1, 2]]
    assert [(run.actor, run.outcome, run.attempt, run.error, run.result) for run in runs] == [
        ("first", Outcome.SUCCEEDED, 1, None, None),
        ("note", Outcome.SUCCEEDED, 1, None, [1, 2]),
    ]
    assert (runs[0].task_id, runs[0].queue, runs[1].args) == (message.message_id, "default", ([1, 2],))
    assert states() == ["succeeded", "succeeded"]
    assert run_pending() == []


def test_what_is_delayed_stays_until_it_is_drained(note: Any, seen: list[Any]) -> None:
    note.send_with_options(args=(2,), delay=7_200_000)
    note.send_with_options(args=(1,), delay=3_600_000)

    assert run_pending() == []
    assert [run.result for run in drain()] == [1, 2]
    assert enqueued() == []


def test_a_limit_goes_step_by_step(note: Any, seen: list[Any]) -> None:
    @actor
    def add(a: int, b: int) -> int:
        return a + b

    steps = chain([add.message(1, 2), add.message(3)]).run()
    assert [run.result for run in run_pending(limit=1)] == [3]
    assert [task.args for task in enqueued(add)] == [(3, 3)]
    assert [run.result for run in run_pending()] == [6]
    assert steps.get_result() == 6


def test_one_queue_alone(note: Any, seen: list[Any]) -> None:
    @actor(queue_name="mail")
    def send_mail() -> None:
        seen.append("mail")

    note.send("note")
    send_mail.send()
    run_pending(queue="mail")
    assert seen == ["mail"]
    drain(queue="default")
    assert seen == ["mail", "note"]


def test_a_failure_is_raised_itself_when_all_is_done(
    note: Any, seen: list[Any], states: Callable[[], list[str]]
) -> None:
    error = ValueError("no")

    @actor(max_retries=0)
    def fail() -> None:
        raise error

    fail.send()
    note.send(1)
    with pytest.raises(ValueError, match="no") as caught:
        run_pending()

    assert caught.value is error
    assert "attempt 1 of the task" in error.__notes__[0]
    assert (seen, states()) == ([1], ["failed", "succeeded"])


def test_a_failure_need_not_be_raised(seen: list[Any]) -> None:
    @actor(max_retries=0)
    def fail() -> None:
        raise ValueError("no")

    fail.send()
    (run,) = run_pending(raise_errors=False)

    assert (run.outcome, str(run.error), run.result) == (Outcome.FAILED, "no", None)


def test_an_error_that_will_be_retried_is_raised_too_and_the_retry_waits(seen: list[Any]) -> None:
    @actor(max_retries=1, min_backoff=60_000, jitter=False)
    def fail() -> None:
        seen.append(current_task().attempt)
        raise ConnectionError

    fail.send()
    with pytest.raises(ConnectionError):
        run_pending()

    (waiting,) = enqueued(fail)
    assert (waiting.attempt, round(waiting.delay_ms, -3)) == (1, 60_000)
    assert run_pending() == []
    (run,) = drain(raise_errors=False)
    assert (run.attempt, run.outcome) == (2, Outcome.FAILED)


def test_drain_takes_retries_to_their_end(seen: list[Any]) -> None:
    @actor(min_backoff=86_400_000)
    def stumble() -> str:
        seen.append(current_task().attempt)
        if len(seen) < 4:
            raise ConnectionError
        return "done"

    message = stumble.send()
    runs = drain()

    assert [run.outcome for run in runs] == [Outcome.RETRY] * 3 + [Outcome.SUCCEEDED]
    assert seen == [1, 2, 3, 4]
    assert message.get_result() == "done"


def test_what_keeps_coming_is_named(seen: list[Any]) -> None:
    @actor
    def again() -> None:
        seen.append(1)
        again.send_with_options(delay=60_000)

    again.send()
    with pytest.raises(TasksWithoutEnd, match="again keep coming: there were more than 5 runs"):
        drain(max_runs=5)
    assert len(seen) == 6
    assert len(run_pending()) == 0


def test_as_many_runs_as_allowed_are_not_too_many(note: Any) -> None:
    for value in range(5):
        note.send(value)

    assert len(drain(max_runs=5)) == 5


def test_a_transactional_actor_commits_with_its_outcome(rows: Rows, note: Any, seen: list[Any]) -> None:
    rows("CREATE TABLE writing (id int PRIMARY KEY)")

    @actor(transactional=True, max_retries=0)
    def write(value: int) -> int:
        current_task().session.execute(text("INSERT INTO writing VALUES (:v)"), {"v": value})
        note.send(value)
        return value

    write.send(1)
    (first, second) = run_pending()
    assert (first.outcome, first.result, second.actor) == (Outcome.SUCCEEDED, 1, "note")

    write.send(1)
    (failed,) = run_pending(raise_errors=False)
    assert failed.outcome is Outcome.FAILED
    assert "duplicate key" in str(failed.error)
    assert (rows("SELECT id FROM writing"), seen) == ([(1,)], [1])


def test_steps_and_progress(rows: Rows) -> None:
    @actor(min_backoff=1000)
    def long() -> list[int]:
        task = current_task()
        begun = task.checkpoint() or 0
        task.progress(30, "begun")
        assert rows("SELECT progress, note FROM pipeline.task_status") == [(30, "begun")]
        with task.step() as step:
            step.cursor = begun + 1
        if task.attempt == 1:
            raise ConnectionError
        return [begun, task.position]

    message = long.send()
    drain()

    assert message.get_result() == [1, 2]


def test_groups_call_back(note: Any, seen: list[Any]) -> None:
    both = group([note.message(1), chain([note.message(2), note.message_with_options(args=(3,), pipe_ignore=True)])])
    both.add_completion_callback(note.message("all"))
    both.run()

    drain()

    assert seen == [1, 2, 3, "all"]


def test_async_actors_run_too(seen: list[Any]) -> None:
    @actor
    async def wait() -> None:
        await asyncio.sleep(0)
        seen.append(current_task().actor)

    wait.send()
    run_pending()

    assert seen == ["wait"]


def test_a_task_knows_nothing_of_the_tests_transaction(note: Any, seen: list[Any], connect: Callable[..., Any]) -> None:
    @actor
    def follow() -> None:
        note.send(1)

    follow.send()
    connection = connect()
    with enlist(connection):
        run_pending()
    connection.rollback()

    assert seen == [1]


def test_a_task_that_nobody_can_do_fails_and_says_so(note: Any, broker: PostgresBroker) -> None:
    broker.enqueue(note.message().copy(actor_name="unknown"))

    with pytest.raises(Exception, match="ActorNotFound: unknown"):
        run_pending()


def test_an_outcome_that_postgresql_refuses_is_a_failure(broker: PostgresBroker, note: Any) -> None:
    class Spoils(dramatiq.Middleware):
        def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
            message.task.capture.sends = [*message.task.capture.sends, spoilt]

    spoilt = broker.encoded(note.message())
    object.__setattr__(spoilt, "payload", '{"args": "\\u0000"}')
    broker.add_middleware(Spoils())
    note.send()

    (run,) = run_pending(raise_errors=False)

    assert run.outcome is Outcome.FAILED
    assert "UntranslatableCharacter" in str(run.error)


def test_the_end_of_the_program_passes_and_the_task_is_not_left_behind(states: Callable[[], list[str]]) -> None:
    @actor(max_retries=0)
    def stop() -> None:
        raise KeyboardInterrupt

    stop.send()
    with pytest.raises(KeyboardInterrupt):
        run_pending()

    assert states() == ["failed"]


def test_a_paused_queue_keeps_its_tasks(note: Any, seen: list[Any]) -> None:
    note.send(1)
    note.send_with_options(args=(2,), delay=1000)
    pause_queue("default", who="test")

    assert drain() == []
    assert len(enqueued()) == 2


def test_it_does_not_work_beside_a_worker_of_this_process(broker: PostgresBroker, note: Any) -> None:
    with working(broker), pytest.raises(ConfigurationError, match="A worker runs in this process"):
        run_pending()
    note.send(1)
    assert len(run_pending()) == 1


@pytest.mark.parametrize("limit", [0, -1, True])
def test_a_limit_is_a_number_of_runs(note: Any, limit: int) -> None:
    note.send()
    with pytest.raises(ValueError, match="limit is a number of runs"):
        run_pending(limit=limit)
    with pytest.raises(ValueError, match="max_runs is a number of runs"):
        drain(max_runs=limit)
    assert len(enqueued()) == 1


def test_an_unknown_queue_is_refused(note: Any) -> None:
    for function in (run_pending, drain, enqueued):
        with pytest.raises(QueueUnknown):
            function(queue="nothing")
    with pytest.raises(ActorNotFound):
        enqueued("nothing")


def test_it_is_refused_where_tasks_run_inline(settings: Settings) -> None:
    with global_broker(PostgresBroker(settings=settings.model_copy(update={"eager": True}))):
        for function in (run_pending, drain, enqueued):
            with pytest.raises(ConfigurationError, match="PIPELINE_EAGER"):
                function()


@pytest.fixture
def other_broker(broker: PostgresBroker) -> Iterator[Any]:
    from dramatiq.brokers.stub import StubBroker

    before = dramatiq.get_broker()
    dramatiq.set_broker(StubBroker())
    yield
    dramatiq.set_broker(before)


@pytest.mark.usefixtures("other_broker")
def test_another_kind_of_broker_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="StubBroker"):
        run_pending()


def test_drain_comes_through_every_gate(seen: list[Any]) -> None:
    """Limits, orders, turns and rates hold a task back for a while; here nobody waits for it."""

    @actor(max_running=1, rate_limit="1/h", ordering_key=lambda number: "one", fairness_key=lambda number: "a tenant")
    def gated(number: int) -> None:
        seen.append(number)

    for number in range(4):
        gated.send_with_options(args=(number,), delay=60_000 * (4 - number))
    assert [each.args for each in enqueued(gated)] == [(3,), (2,), (1,), (0,)]
    drain()

    assert seen == [0, 1, 2, 3]
    assert enqueued() == []


def test_drain_leaves_what_is_paused(seen: list[Any]) -> None:
    @actor
    def work(number: int) -> None:
        seen.append(number)

    pause_tenant("acme", who="ada")
    work.send_with_options(args=(1,), tenant="acme")
    work.send(2)
    drain()

    assert seen == [2]
    assert [each.args for each in enqueued()] == [(1,)]
