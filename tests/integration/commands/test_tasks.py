"""Snooze, reschedule, reprioritise, move, retry and clone single tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import pipeline
from pipeline import (
    DuplicateTask,
    MessageNotEncodable,
    MessageTooLarge,
    PostgresBroker,
    QueueUnknown,
    TaskConflict,
    TaskNotCancellable,
    TaskNotFound,
    clone,
    move_task,
    reprioritise,
    reschedule,
    retry_now,
    snooze,
)
from pipeline.db.dsn import Dsn
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., Any]

HOUR = timedelta(hours=1)
ETA = datetime(2100, 1, 1, tzinfo=UTC)
ADA = {"who": "ada", "reason": "so"}

#: Every command, with arguments that make sense, and its name in the audit.
COMMANDS = {
    "snooze": partial(snooze, for_=HOUR, **ADA),
    "reschedule": partial(reschedule, eta=ETA, **ADA),
    "reprioritise": partial(reprioritise, priority=7, **ADA),
    "move": partial(move_task, queue="letters", **ADA),
    "retry": partial(retry_now, **ADA),
    "clone": partial(clone, **ADA),
}
#: Those that change a task only where it waits.
OF_WAITING = ["snooze", "reschedule", "reprioritise", "move"]


@pytest.fixture
def greet(broker: PostgresBroker) -> Any:
    @pipeline.actor(max_retries=0)
    def greet(name: str = "you", *, loud: bool = False) -> str:
        if name == "nobody":
            raise ValueError(name)
        return name.upper() if loud else name

    broker.sender.ensure_lanes([("letters", 0)])
    return greet


@pytest.fixture
def audit(rows: Rows) -> Callable[[], list[tuple[str, str, str]]]:
    return lambda: rows("SELECT action, who, reason FROM pipeline.audit ORDER BY audit_id")


def run_all(broker: PostgresBroker) -> None:
    with working(broker, threads=1):
        broker.join("default", timeout=20_000)


def eta(rows: Rows) -> Any:
    return rows("SELECT eta FROM pipeline.task_status")[0][0]


# --- what holds for all of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "no id", ""])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_task_is_not_found(greet: Any, audit: Any, command: str, task_id: str) -> None:
    with pytest.raises(TaskNotFound):
        COMMANDS[command](task_id)

    assert audit() == []


@pytest.mark.parametrize("command", [*OF_WAITING, "retry"])
def test_a_running_task_is_left_alone_and_the_error_says_so(
    broker: PostgresBroker, rows: Rows, audit: Any, command: str
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @pipeline.actor
    def work() -> None:
        has_begun.set()
        may_end.wait(10)

    broker.sender.ensure_lanes([("letters", 0)])
    message = work.send()
    with working(broker, threads=1):
        assert has_begun.wait(5)
        with pytest.raises(TaskConflict, match=f"{message.message_id} is running; only a") as caught:
            COMMANDS[command](message.message_id)
        may_end.set()
        eventually(lambda: rows("SELECT state FROM pipeline.task_status") == [("succeeded",)])

    assert caught.value.state == "running"
    assert audit() == []
    assert rows("SELECT run, outcome FROM pipeline.attempt_history") == [(1, "succeeded")]


@pytest.mark.parametrize("command", [*OF_WAITING, "retry"])
def test_a_task_that_succeeded_stays_so(broker: PostgresBroker, greet: Any, states: Any, command: str) -> None:
    message = greet.send()
    run_all(broker)

    with pytest.raises(TaskConflict, match="is succeeded; only a") as caught:
        COMMANDS[command](message.message_id)

    assert caught.value.state == "succeeded"
    assert states() == ["succeeded"]


def test_a_conflict_is_what_a_refused_cancel_is(broker: PostgresBroker, greet: Any) -> None:
    message = greet.send()
    run_all(broker)

    with pytest.raises(TaskConflict) as caught:
        pipeline.cancel(message.message_id, who="ada")

    assert isinstance(caught.value, TaskNotCancellable)


@pytest.mark.parametrize("command", [*OF_WAITING, "retry"])
def test_twice_is_as_good_as_once_and_who_and_why_are_noted(greet: Any, rows: Rows, audit: Any, command: str) -> None:
    task_id = greet.send_with_options(delay=60_000).message_id

    for _ in range(2):
        COMMANDS[command](task_id)

    assert set(audit()) == {(command, "ada", "so")}
    assert len(audit()) == (2 if command == "snooze" else 1)
    assert rows("SELECT run FROM pipeline.ready") == [(1,)]
    assert rows("SELECT attempt FROM pipeline.task_status") == [(0,)]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_belongs_to_the_callers_transaction(
    greet: Any, connect: Any, database_url: str, rows: Rows, audit: Any, command: str
) -> None:
    task_id = greet.send_with_options(delay=60_000).message_id
    look = "SELECT queue, priority, eta FROM pipeline.task_status ORDER BY id"
    before = rows(look)
    engine = create_engine(Dsn.parse(database_url).sqlalchemy)
    with Session(engine) as session, engine.connect() as core:
        for target in (connect(), session, core):
            COMMANDS[command](task_id, target=target)
            assert rows(look) == before
            target.rollback()
        assert (rows(look), audit()) == (before, [])

        COMMANDS[command](task_id, target=session)
        session.commit()
    engine.dispose()

    assert rows(look) != before
    assert audit()[0] == (command, "ada", "so")


def test_a_task_can_be_changed_in_the_transaction_that_sends_it(greet: Any, connect: Any, rows: Rows) -> None:
    connection = connect()
    with pipeline.enlist(connection):
        task_id = greet.send().message_id
    reprioritise(task_id, 3, target=connection, **ADA)
    move_task(task_id, "letters", target=connection, **ADA)
    connection.commit()

    assert rows("SELECT queue, priority FROM pipeline.task_status") == [("letters", 3)]


# --- snooze and reschedule --------------------------------------------------------------------------------------------


def test_a_snoozed_task_waits_for_so_long_at_least(greet: Any, rows: Rows) -> None:
    task_id = greet.send().message_id

    snooze(task_id, for_=HOUR, **ADA)
    assert rows("SELECT state, eta BETWEEN now() + interval '59 min' AND now() + interval '61 min'"
                " FROM pipeline.task_status") == [("scheduled", True)]  # fmt: skip

    reschedule(task_id, eta=ETA, **ADA)
    snooze(task_id, for_=HOUR, **ADA)
    assert eta(rows) == ETA


def test_a_task_can_be_rescheduled_to_earlier_and_to_later(greet: Any, rows: Rows) -> None:
    task_id = greet.send().message_id
    here = timezone(timedelta(hours=2))

    for wanted in (ETA, ETA - 10 * HOUR, datetime(2099, 1, 1, 12, tzinfo=here)):
        reschedule(task_id, eta=wanted, **ADA)
        assert eta(rows) == wanted


def test_a_time_that_is_over_means_now_and_not_before_others(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    first, second = greet.send("first"), greet.send_with_options(args=("second",), delay=60_000)
    reschedule(second.message_id, eta=datetime(2001, 1, 1, tzinfo=UTC), **ADA)

    run_all(broker)

    ran = "SELECT task_id FROM pipeline.task_status ORDER BY started_at"
    assert rows(ran) == [(first.message_id,), (second.message_id,)]


def test_a_time_without_a_zone_is_refused(greet: Any, audit: Any) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        reschedule(greet.send().message_id, eta=datetime(2100, 1, 1), **ADA)  # noqa: DTZ001

    assert audit() == []


@pytest.mark.parametrize("for_", [timedelta(seconds=-1), timedelta.max])
def test_a_time_that_makes_no_sense_is_refused(greet: Any, audit: Any, for_: timedelta) -> None:
    with pytest.raises(ValueError, match="from 0 to a thousand years"):
        snooze(greet.send().message_id, for_=for_, **ADA)

    assert audit() == []


# --- from inside the task ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transactional", [False, True])
def test_a_task_that_snoozes_runs_again_later_and_no_attempt_counts(
    broker: PostgresBroker, rows: Rows, transactional: bool
) -> None:
    rows("CREATE TABLE note (x int)")

    @pipeline.actor(max_retries=0, transactional=transactional)
    def wait_for_it() -> str:
        task = pipeline.current_task()
        if transactional:
            with task.cursor() as cursor:
                cursor.execute("INSERT INTO note VALUES (%s)", (task.run,))
        if task.run < 4:
            task.snooze(0.01)
        return f"run {task.run}, attempt {task.attempt}"

    message = wait_for_it.send()
    with working(broker, threads=1):
        assert message.get_result(block=True) == "run 4, attempt 1"

    assert rows("SELECT outcome, attempt, reason FROM pipeline.attempt_history ORDER BY run") == [
        ("interrupted", 0, "snoozed"),
        ("interrupted", 0, "snoozed"),
        ("interrupted", 0, "snoozed"),
        ("succeeded", 1, None),
    ]
    assert rows("SELECT x FROM note") == ([(4,)] if transactional else [])


def test_snoozing_keeps_count_of_the_retries(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def try_it() -> None:
        task = pipeline.current_task()
        if task.run % 2:
            task.snooze(0)
        raise ValueError

    try_it.send()
    run_all(broker)

    assert rows("SELECT outcome FROM pipeline.attempt_history ORDER BY run") == [
        ("interrupted",),
        ("retry",),
        ("interrupted",),
        ("failed",),
    ]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e15])
def test_a_task_cannot_snooze_for_what_is_no_time(broker: PostgresBroker, rows: Rows, seconds: float) -> None:
    @pipeline.actor(max_retries=0)
    def work() -> None:
        pipeline.current_task().snooze(seconds)

    work.send()
    run_all(broker)

    ((error,),) = rows("SELECT error FROM pipeline.task_status")
    assert error.startswith("ValueError: A time of")


# --- reprioritise and move --------------------------------------------------------------------------------------------


def test_a_task_with_a_better_priority_runs_before_others(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    sent = [greet.send(str(n)).message_id for n in range(3)]
    reprioritise(sent[2], -5, **ADA)
    reprioritise(sent[0], 5, **ADA)

    assert rows("SELECT priority FROM pipeline.task_status ORDER BY id") == [(5,), (0,), (-5,)]
    run_all(broker)
    ran = "SELECT task_id FROM pipeline.task_status ORDER BY started_at"
    assert rows(ran) == [(sent[2],), (sent[1],), (sent[0],)]


@pytest.mark.parametrize("priority", [-32769, 32768, "1", 1.0, True, None])
def test_what_is_no_priority_is_refused(greet: Any, rows: Rows, priority: Any) -> None:
    task_id = greet.send().message_id
    with pytest.raises(ValueError, match="is no whole number from"):
        reprioritise(task_id, priority, **ADA)

    assert rows("SELECT priority FROM pipeline.task_status") == [(0,)]


def test_a_task_that_was_moved_runs_where_it_is(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    message = greet.send()
    move_task(message.message_id, "letters", **ADA)
    with working(broker, queues={"default"}):
        pipeline.get_broker  # noqa: B018
        assert greet.send("other").get_result(block=True) == "other"
    assert rows("SELECT queue, state FROM pipeline.task_status ORDER BY id LIMIT 1") == [("letters", "queued")]

    broker.declare_queue("letters")
    with working(broker, queues={"letters"}):
        assert message.get_result(block=True) == "you"


def test_nothing_moves_to_an_unknown_queue(greet: Any, rows: Rows, audit: Any) -> None:
    task_id = greet.send().message_id
    with pytest.raises(QueueUnknown, match="There is no queue lettters"):
        move_task(task_id, "lettters", **ADA)

    assert rows("SELECT queue FROM pipeline.task_status") == [("default",)]
    assert rows("SELECT count(*) FROM pipeline.queue") == [(2,)]
    assert audit() == []


def test_a_task_whose_record_was_carried_is_moved_too(greet: Any, rows: Rows) -> None:
    task_id = greet.send().message_id
    rows("WITH moved AS (DELETE FROM pipeline.task RETURNING *) INSERT INTO pipeline.task_carry SELECT * FROM moved")

    move_task(task_id, "letters", **ADA)

    assert rows("SELECT queue FROM pipeline.task_status") == [("letters",)]


@pytest.mark.parametrize("command", [*OF_WAITING, "retry"])
def test_a_task_that_waits_at_a_gate_is_changed_like_any_other(
    broker: PostgresBroker, greet: Any, rows: Rows, command: str
) -> None:
    message = greet.send_with_options(ordering_key="o")
    rows("WITH gone AS (DELETE FROM pipeline.ready RETURNING *) INSERT INTO pipeline.parked (gate, priority, eta, id, lane_id, run)"
         " SELECT 'order:o', 0, eta, id, lane_id, run FROM gone")  # fmt: skip

    COMMANDS[command](message.message_id)
    assert rows("SELECT (SELECT count(*) FROM pipeline.ready), (SELECT count(*) FROM pipeline.parked)") == [(1, 0)]

    retry_now(message.message_id, **ADA)
    if command == "move":
        broker.declare_queue("letters")
    with working(broker):
        assert message.get_result(block=True) == "you"
    assert rows("SELECT count(*) FROM pipeline.slot") == [(0,)]


def test_where_tasks_with_gates_go_their_gates_hold(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    message = greet.send_with_options(ordering_key="o")
    move_task(message.message_id, "letters", **ADA)
    broker.actors.clear()
    clone(message.message_id, **ADA)

    assert rows("SELECT is_gated FROM pipeline.queue WHERE name = 'letters'") == [(True,)]
    assert rows("SELECT keys->>'ordering_key' FROM pipeline.task") == [("o",)] * 2


def test_a_failed_task_of_an_order_takes_its_place_again(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    first = greet.send_with_options(args=("nobody",), ordering_key="o")
    run_all(broker)
    assert rows("SELECT count(*) FROM pipeline.ordering") == [(0,)]

    retry_now(first.message_id, **ADA)

    assert rows("SELECT ordering_key FROM pipeline.ordering") == [("o",)]


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_task_that_waits_for_its_retry_runs_now(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(min_backoff=3_600_000, max_retries=1, jitter=False)
    def work() -> str:
        if pipeline.current_task().run == 1:
            raise ValueError
        return "done"

    message = work.send()
    with working(broker, threads=1):
        eventually(lambda: rows("SELECT 1 FROM pipeline.task_status WHERE state = 'scheduled' AND attempt = 1"))
        retry_now(message.message_id, **ADA)
        assert message.get_result(block=True) == "done"

    assert rows("SELECT run, attempt FROM pipeline.attempt_history ORDER BY run") == [(1, 1), (2, 2)]


def test_a_task_that_is_due_keeps_its_place(greet: Any, rows: Rows, audit: Any) -> None:
    message = greet.send()
    before = eta(rows)

    retry_now(message.message_id, **ADA)

    assert eta(rows) == before
    assert audit() == []


def test_a_failed_task_starts_over(broker: PostgresBroker, rows: Rows) -> None:
    """Its runs are numbered on, and it has all its retries again."""

    @pipeline.actor(min_backoff=1, max_backoff=1, max_retries=1)
    def work() -> None:
        raise ValueError

    message = work.send()
    run_all(broker)
    retry_now(message.message_id, **ADA)
    assert rows("SELECT state FROM pipeline.task_status") == [("queued",)]
    run_all(broker)

    assert rows("SELECT run, attempt, outcome FROM pipeline.attempt_history ORDER BY run") == [
        (1, 1, "retry"),
        (2, 2, "failed"),
        (3, 3, "retry"),
        (4, 4, "failed"),
    ]


def test_a_cancelled_task_runs_after_all(broker: PostgresBroker, greet: Any) -> None:
    message = greet.send()
    pipeline.cancel(message.message_id, who="ada")
    retry_now(message.message_id, **ADA)

    with working(broker):
        assert message.get_result(block=True) == "you"


def test_a_cancelled_chain_is_continued_by_the_retry_of_its_first_step(
    broker: PostgresBroker, greet: Any, rows: Rows
) -> None:
    """Its later steps were refused in advance, and are wanted again."""
    chain = pipeline.chain([greet.message("a"), greet.message_with_options(pipe_ignore=True, args=("b",))]).run()
    pipeline.cancel(chain, who="ada")
    retry_now(chain.messages[0].message_id, **ADA)
    with working(broker):
        assert chain.get_result(block=True) == "b"

    assert rows("SELECT count(*) FROM pipeline.cancel_request") == [(0,)]


def test_a_skipped_task_runs_after_all(broker: PostgresBroker, states: Any) -> None:
    @pipeline.actor(max_age=1)
    def work() -> None: ...

    message = work.send()
    run_all(broker)
    assert states() == ["skipped"]

    retry_now(message.message_id, **ADA)
    assert states() == ["queued"]


def test_a_task_that_succeeded_runs_again_if_that_is_meant(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    message = greet.send()
    run_all(broker)
    retry_now(message.message_id, again=True, **ADA)
    run_all(broker)

    assert rows("SELECT outcome FROM pipeline.attempt_history") == [("succeeded",), ("succeeded",)]


def test_a_retry_takes_its_keys_again_or_says_who_has_them(broker: PostgresBroker, greet: Any, states: Any) -> None:
    first = greet.send_with_options(unique_key="k")
    pipeline.cancel(first.message_id, who="ada")
    second = greet.send_with_options(unique_key="k")
    with pytest.raises(DuplicateTask, match=f'"k" is held by the task {second.message_id}'):
        retry_now(first.message_id, **ADA)
    assert states() == ["cancelled", "queued"]

    pipeline.cancel(second.message_id, who="ada")
    retry_now(first.message_id, **ADA)
    assert greet.send_with_options(unique_key="k").message_id == first.message_id


# --- clone ------------------------------------------------------------------------------------------------------------


def test_a_clone_is_a_new_task_with_the_same_or_other_arguments(
    broker: PostgresBroker, greet: Any, rows: Rows, audit: Any
) -> None:
    message = greet.send_with_options(args=("ada",), kwargs={"loud": True}, priority=3, max_age=77_000)
    run_all(broker)

    same = clone(message.message_id, **ADA)
    other = clone(message.message_id, args=["bob"], kwargs={}, queue="letters", priority=1, delay=HOUR, **ADA)

    look = (
        "SELECT queue, priority, args, kwargs, state, t.payload->'options'->>'max_age', "
        "t.parent = pipeline.find_task_v1(%s) FROM pipeline.task_status s JOIN pipeline.task t USING (id) "
        "WHERE task_id = %s"
    )
    assert rows(look, message.message_id, same) == [("default", 3, ["ada"], {"loud": True}, "queued", "77000", True)]
    assert rows(look, message.message_id, other) == [("letters", 1, ["bob"], {}, "scheduled", "77000", True)]
    assert audit()[:2] == [("clone", "ada", "so"), ("enqueue", "ada", f"a clone of {message.message_id}")]
    with working(broker):
        assert greet.message().copy(message_id=same).get_result(block=True) == "ADA"


def test_a_program_without_the_actor_can_clone(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    """As the command line."""
    message = greet.send_with_options(args=("ada",), priority=3)
    broker.actors.clear()

    clone(message.message_id, **ADA)

    assert rows("SELECT actor, priority, args FROM pipeline.task_status") == [("greet", 3, ["ada"])] * 2


def test_a_clone_has_a_unique_key_and_no_idempotency_key(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    message = greet.send_with_options(unique_key="k", idempotency_key="i")
    with pytest.raises(DuplicateTask, match=message.message_id):
        clone(message.message_id, **ADA)
    assert clone(message.message_id, on_conflict="skip", **ADA) == message.message_id
    assert clone(message.message_id, unique_key="other", **ADA) != message.message_id
    run_all(broker)

    clone(message.message_id, **ADA)

    assert rows("SELECT key FROM pipeline.unique_key ORDER BY 1") == [("i:i",), ("u:k",)]


def test_a_clones_key_is_computed_from_its_own_arguments(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(unique_key=lambda n: f"n:{n}")
    def work(n: int) -> None: ...

    message = work.send(1)
    with pytest.raises(DuplicateTask):
        clone(message.message_id, **ADA)
    clone(message.message_id, args=[2], **ADA)

    assert rows("SELECT key FROM pipeline.unique_key ORDER BY 1") == [("u:n:1",), ("u:n:2",)]


def test_a_clone_has_the_labels_of_its_original_and_its_own_entity(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(tags=["work"], entity=lambda n: ("n", n))
    def work(n: int) -> None: ...

    message = work.send_with_options(args=(1,), tags=["x"], tenant="north", correlation_id="c1")
    clone(message.message_id, **ADA)
    clone(message.message_id, args=[2], tags=["y"], correlation_id=None, **ADA)
    broker.actors.clear()  # as the command line, which knows no actor
    clone(message.message_id, **ADA)
    clone(message.message_id, entity="m:3", tags=None, **ADA)

    labels = {"tags": ["work", "x"], "entity": "n:1", "tenant": "north", "correlation_id": "c1"}
    assert rows("SELECT labels FROM pipeline.task ORDER BY id") == [
        (labels,),
        (labels,),
        ({"tags": ["work", "y"], "entity": "n:2", "tenant": "north"},),
        (labels,),
        ({"entity": "m:3", "tenant": "north", "correlation_id": "c1"},),
    ]
    assert rows("SELECT tag, count(*) FROM pipeline.task_tag GROUP BY tag ORDER BY tag") == [
        ("work", 4),
        ("x", 3),
        ("y", 1),
    ]


def test_a_clone_counts_in_no_group(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    group = pipeline.group([greet.message("a"), greet.message("b")])
    group.add_completion_callback(greet.message("done"))
    group.run()
    clone(rows("SELECT task_id FROM pipeline.task_status ORDER BY id LIMIT 1")[0][0], **ADA)
    run_all(broker)

    assert rows("SELECT count(*) FROM pipeline.task_status WHERE args->>0 = 'done'") == [(1,)]
    assert rows("SELECT count(*) FROM pipeline.group_member") == [(2,)]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"args": [object()]}, MessageNotEncodable),
        ({"kwargs": {"x": "a\0"}}, MessageNotEncodable),
        ({"args": ["x" * 2_000_000]}, MessageTooLarge),
        ({"queue": "lettters"}, QueueUnknown),
        ({"priority": 99_999}, ValueError),
        ({"delay": timedelta(seconds=-1)}, ValueError),
        ({"time_limit": -1}, MessageNotEncodable),
        ({"unique_key": ""}, MessageNotEncodable),
        ({"tags": "urgent"}, MessageNotEncodable),
    ],
)
def test_a_clone_has_the_limits_of_a_send(
    greet: Any, states: Any, audit: Any, changes: dict[str, Any], error: type[Exception]
) -> None:
    task_id = greet.send().message_id
    with pytest.raises(error):
        clone(task_id, **changes, **ADA)

    assert states() == ["queued"]
    assert audit() == []


def test_a_message_that_nobody_can_read_is_not_cloned(greet: Any, rows: Rows, states: Any) -> None:
    task_id = greet.send().message_id
    rows("""UPDATE pipeline.task SET payload = '{"args": 7}'""")
    with pytest.raises(MessageNotEncodable, match="cannot be read"):
        clone(task_id, **ADA)

    assert states() == ["queued"]
