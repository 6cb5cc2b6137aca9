"""Pipelines and groups: each step, result and count belongs to the outcome of the run that made it."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import pytest
from dramatiq import group, pipeline
from dramatiq.results import ResultFailure

from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


@pytest.fixture
def add(broker) -> dramatiq.Actor:
    @dramatiq.actor
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.fixture
def collected(broker) -> list[Any]:
    """What the actor ``collect`` was called with."""
    calls: list[Any] = []

    @dramatiq.actor
    def collect(*args: Any) -> None:
        calls.append(args)

    return calls


# --- pipelines --------------------------------------------------------------------------------------------------------


def test_each_step_of_a_pipeline_gets_the_result_of_the_one_before(add, worker) -> None:
    pipe = pipeline([add.message(1, 2), add.message(10), add.message(100)]).run()

    assert pipe.get_result(block=True) == 113
    assert list(pipe.get_results(block=True)) == [3, 13, 113]


def test_a_pipeline_may_be_written_with_bars(add, worker) -> None:
    assert (add.message(1, 2) | add.message(10)).run().get_result(block=True) == 13


def test_a_step_may_ignore_the_result_before_it(add, worker) -> None:
    pipe = add.message(1, 2) | add.message_with_options(args=(5, 6), pipe_ignore=True)

    assert pipe.run().get_result(block=True) == 11


def test_a_result_of_none_is_passed_on_too(broker, worker) -> None:
    @dramatiq.actor
    def nothing() -> None: ...

    @dramatiq.actor
    def kind(value: Any) -> str:
        return repr(value)

    assert (nothing.message() | kind.message()).run().get_result(block=True) == "None"


def test_a_delayed_pipeline_waits_with_its_first_step(add, rows) -> None:
    (add.message(1, 2) | add.message(3)).run(delay=60_000)

    assert rows("SELECT state, args::text FROM pipeline.task_status") == [("scheduled", "[1,2]")]


def test_a_step_may_have_a_delay_of_its_own(add, worker, rows) -> None:
    (add.message(1, 2) | add.message_with_options(args=(10,), delay=60_000)).run()

    eventually(
        lambda: rows("SELECT state, args::text FROM pipeline.task_status ORDER BY id")[1:] == [("scheduled", "[10,3]")]
    )


def test_a_failed_step_ends_the_pipeline(add, worker, broker, states) -> None:
    @dramatiq.actor(max_retries=0)
    def fail(x: int) -> None:
        raise ValueError

    (add.message(1, 2) | fail.message() | add.message(1)).run()

    broker.join("default", timeout=5_000)
    assert states() == ["succeeded", "failed"]


def test_a_step_that_succeeds_at_its_second_try_goes_on_once(add, worker, broker, states) -> None:
    tries: list[int] = []

    @dramatiq.actor(min_backoff=1)
    def flaky(x: int) -> int:
        tries.append(x)
        if len(tries) == 1:
            raise ValueError
        return x

    pipe = (add.message(1, 2) | flaky.message() | add.message(1)).run()

    assert pipe.get_result(block=True) == 4
    broker.join("default", timeout=5_000)
    assert states() == ["succeeded"] * 3


def test_a_next_step_whose_queue_nobody_declared_is_the_tasks_failure(broker, add, worker, rows) -> None:
    """**R** Dramatiq would swallow the error, and the task would have succeeded with its next step gone."""
    stray = add.message(1).copy(queue_name="nowhere")
    first = add.message_with_options(args=(1, 2), max_retries=0)
    first.options["pipe_target"] = stray.asdict()

    with pytest.raises(ResultFailure, match="QueueNotFound"):
        broker.enqueue(first).get_result(block=True)
    assert rows("SELECT state FROM pipeline.task_status") == [("failed",)]


def test_a_next_step_that_cannot_be_encoded_is_the_tasks_failure_and_is_retried(broker, worker, history) -> None:
    """**R** The result of a task that stores none still has to fit into the next step."""
    values: list[Any] = [object(), 7]

    @dramatiq.actor(store_results=False, min_backoff=1)
    def give() -> Any:
        return values.pop(0)

    @dramatiq.actor
    def take(value: Any) -> Any:
        return value

    pipe = (give.message() | take.message()).run()

    assert pipe.get_result(block=True) == 7
    assert history() == [(1, 1, "retry"), (2, 2, "succeeded"), (1, 1, "succeeded")]


# --- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_gives_the_results_of_its_members(add, worker) -> None:
    members = group(add.message(x, x) for x in range(10)).run()

    assert list(members.get_results(block=True)) == [2 * x for x in range(10)]
    assert members.completed
    assert members.completed_count == 10


def test_a_groups_callback_runs_once_when_all_members_are_done(broker, add, collected) -> None:
    members = group(add.message(x, x) for x in range(20))
    members.add_completion_callback(broker.get_actor("collect").message("done"))
    members.run()
    with working(broker, threads=8):
        broker.join("default", timeout=10_000)

    assert collected == [("done",)]


def test_a_member_that_runs_twice_counts_once(broker, add, collected, worker, rows) -> None:
    """Dramatiq's own barrier would complete the group one member too early."""
    may_end = threading.Event()

    @dramatiq.actor
    def slow() -> None:
        may_end.wait(10)

    quick = add.message(1, 1)
    members = group([quick, slow.message()])
    members.add_completion_callback(broker.get_actor("collect").message("done"))
    members.run()
    quick.get_result(block=True)
    [(options,)] = rows("SELECT payload->'options' FROM pipeline.task WHERE actor = 'add'")
    broker.enqueue(quick.copy(options=options))
    eventually(lambda: rows("SELECT count(*) FROM pipeline.attempt") == [(2,)])
    assert collected == []

    may_end.set()
    eventually(lambda: collected == [("done",)])


def test_a_member_that_is_retried_counts_when_it_succeeds(broker, add, collected, worker) -> None:
    tries: list[int] = []

    @dramatiq.actor(min_backoff=1)
    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    members = group([flaky.message(), add.message(1, 1)])
    members.add_completion_callback(broker.get_actor("collect").message("done"))
    members.run()

    eventually(lambda: collected == [("done",)])
    assert len(tries) == 3


def test_every_callback_of_a_group_runs(broker, add, collected, worker) -> None:
    members = group([add.message(1, 1)])
    for name in ("one", "two"):
        members.add_completion_callback(broker.get_actor("collect").message(name))
    members.run()

    eventually(lambda: sorted(collected) == [("one",), ("two",)])


def test_pipelines_inside_a_group_count_with_their_last_step(broker, add, collected, worker) -> None:
    members = group([add.message(1, 2) | add.message(10), add.message(3, 4) | add.message(10)])
    members.add_completion_callback(broker.get_actor("collect").message("done"))
    members.run()

    assert sorted(members.get_results(block=True)) == [13, 17]
    eventually(lambda: collected == [("done",)])


def test_groups_may_be_nested(add, worker) -> None:
    nested = group([group([add.message(1, 1), add.message(2, 2)]), group([add.message(3, 3)])]).run()

    assert list(nested.get_results(block=True)) == [[2, 4], [6]]


def test_the_members_of_a_delayed_group_are_delayed(add, rows) -> None:
    group(add.message(x, x) for x in range(3)).run(delay=60_000)

    assert rows("SELECT state, count(*) FROM pipeline.task_status GROUP BY 1") == [("scheduled", 3)]


def test_a_group_with_a_member_that_cannot_be_encoded_leaves_nothing(add, rows) -> None:
    with pytest.raises(ValueError, match="JSON"):
        group([add.message(1, 1), add.message(1, object())]).run()

    assert rows("SELECT 1 FROM pipeline.task") == []


def test_a_group_with_nested_pipelines_is_all_or_none_too(add, rows) -> None:
    with pytest.raises(ValueError, match="JSON"):
        group([add.message(1, 1) | add.message(2), add.message(1, object()) | add.message(2)]).run()

    assert rows("SELECT 1 FROM pipeline.task") == []


def test_the_same_message_twice_in_a_group_is_one_task(add, rows) -> None:
    message = add.message(1, 1)
    group([message, message]).run()

    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


def test_a_group_of_thousands_is_one_statement(broker, add, rows) -> None:
    group(add.message(x, x) for x in range(2_000)).run()

    assert rows("SELECT count(*), count(DISTINCT xmin::text) FROM pipeline.task") == [(2_000, 1)]
