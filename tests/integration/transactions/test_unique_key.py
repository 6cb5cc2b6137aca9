"""One task at a time, by the ways in which messages are sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg2
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import pipeline
from pipeline import DuplicateTask, MessageNotEncodable, PostgresBroker, TaskIsRunning
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]


def send(actor: Any, *args: Any, key: str | None = "k", **options: Any) -> str:
    return str(actor.send_with_options(args=args, unique_key=key, **options).message_id)


def held(rows: Rows) -> list[str]:
    return [key for (key,) in rows("SELECT key FROM pipeline.unique_key ORDER BY key")]


# --- outside a transaction --------------------------------------------------------------------------------------------


def test_the_second_message_has_the_id_of_the_first_ones_task(follow: Any, tasks: Any) -> None:
    first = send(follow, "a")
    assert send(follow, "b") == first
    assert send(follow, "c", key="other") != first

    assert tasks() == ["a", "c"]


def test_the_callers_message_object_is_left_as_it_was(follow: Any, broker: PostgresBroker) -> None:
    first = send(follow, "a")
    message = follow.message_with_options(args=("b",), unique_key="k")
    own = message.message_id

    sent = broker.enqueue(message)

    assert (message.message_id, sent.message_id) == (own, first)


def test_replace_changes_what_waits(follow: Any, tasks: Any) -> None:
    first = send(follow, "a", delay=60_000)

    assert send(follow, "b", on_conflict="replace") == first

    assert tasks() == ["b"]


def test_an_error_names_the_key_and_the_task(follow: Any, tasks: Any) -> None:
    first = send(follow, "a")
    with pytest.raises(DuplicateTask, match=f'The key "k" is held by the task {first}') as caught:
        send(follow, "b", on_conflict="error")

    assert (caught.value.key, caught.value.task_id) == ("k", first)
    assert tasks() == ["a"]


@pytest.mark.parametrize("key", ["", "x" * 513, 7])
def test_what_is_no_key_is_refused_and_nothing_is_enqueued(follow: Any, tasks: Any, key: Any) -> None:
    with pytest.raises(MessageNotEncodable):
        send(follow, "a", key=key)

    assert tasks() == []


def test_send_many_tells_which_tasks_stand(follow: Any, broker: PostgresBroker, tasks: Any) -> None:
    first = send(follow, "a")
    messages = [
        follow.message_with_options(args=(what,), unique_key=key)
        for what, key in [("b", "k"), ("c", "l"), ("d", "l"), ("e", None)]
    ]

    b, c, d, e = (message.message_id for message in pipeline.send_many(messages))

    assert (b, d) == (first, c)
    assert e == messages[3].message_id
    assert tasks() == ["a", "c", "e"]


def test_send_many_makes_all_or_none(follow: Any, tasks: Any) -> None:
    send(follow, "a")
    messages = [follow.message("b"), follow.message_with_options(args=("c",), unique_key="k", on_conflict="error")]
    with pytest.raises(DuplicateTask):
        pipeline.send_many(messages)

    assert tasks() == ["a"]


def test_an_actor_can_compute_the_key_of_its_messages(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(unique_key=lambda order, *, note="": f"order:{order}", on_conflict="replace")
    def ship(order: int, *, note: str = "") -> None: ...

    first = ship.send(1, note="a")
    assert ship.send(1, note="b").message_id == first.message_id
    assert ship.send(2).message_id != first.message_id
    assert ship.send_with_options(args=(1,), unique_key=None).message_id != first.message_id
    with pytest.raises(DuplicateTask):
        ship.send_with_options(args=(1,), on_conflict="error")

    assert held(rows) == ["u:order:1", "u:order:2"]
    assert rows("SELECT kwargs->>'note' FROM pipeline.task_status ORDER BY id LIMIT 1") == [("b",)]


def test_from_sql(follow: Any, rows: Rows, tasks: Any) -> None:
    call = "SELECT pipeline.enqueue('follow', %s, queue => 'default', options => %s)"
    ((first,),) = rows(call, '["a"]', '{"unique_key": "k"}')

    assert rows(call, '["b"]', '{"unique_key": "k"}') == [(first,)]
    assert send(follow, "c") == str(first)
    assert rows(call, '["d"]', '{"unique_key": "k", "on_conflict": "replace"}') == [(first,)]
    assert tasks() == ["d"]
    with pytest.raises(psycopg2.Error) as caught:
        rows(call, '["e"]', '{"unique_key": "k", "on_conflict": "error"}')
    assert caught.value.pgcode == "PQ011"


@pytest.mark.parametrize(
    "options",
    [
        '{"unique_key": ""}',
        '{"unique_key": 7}',
        '{"unique_key": "a", "on_conflict": "ignore"}',
        '{"idempotency_key": "a", "idempotency_window": 0}',
        '{"idempotency_key": "a", "idempotency_window": "1"}',
    ],
)
def test_sql_refuses_what_is_no_key(follow: Any, rows: Rows, tasks: Any, options: str) -> None:
    with pytest.raises(psycopg2.DataError):
        rows("SELECT pipeline.enqueue('follow', '[1]', queue => 'default', options => %s)", options)

    assert tasks() == []


# --- inside a transaction ---------------------------------------------------------------------------------------------


def test_in_a_transaction_of_psycopg2_the_id_is_right_at_once(follow: Any, connect: Any, tasks: Any) -> None:
    first = send(follow, "a")
    connection = connect()
    with pipeline.enlist(connection):
        assert send(follow, "b") == first
        new = send(follow, "c", key="l")
        assert send(follow, "d", key="l") == new
    connection.commit()

    assert tasks() == ["a", "c"]


def test_an_error_leaves_the_callers_transaction_usable(follow: Any, connect: Any, tasks: Any) -> None:
    send(follow, "a")
    connection = connect()
    with pipeline.enlist(connection):
        with pytest.raises(DuplicateTask):
            send(follow, "b", on_conflict="error")
        send(follow, "c", key=None)
    connection.commit()

    assert tasks() == ["a", "c"]


def test_written_at_exit_a_message_keeps_its_id_and_is_not_made(follow: Any, connect: Any, tasks: Any) -> None:
    first = send(follow, "a")
    connection = connect()
    with pipeline.enlist(connection, at_exit=True):
        assert send(follow, "b") != first
        send(follow, "c", key=None)
    connection.commit()

    assert tasks() == ["a", "c"]


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_in_a_transaction_of_sqlalchemy_the_id_is_right_at_once(
    follow: Any, engine: Engine, tasks: Any, kind: str
) -> None:
    first = send(follow, "a")
    with Session(engine) if kind == "session" else engine.connect() as target, pipeline.enlist(target):
        assert send(follow, "b") == first
        new = follow.send_with_options(args=("c",), unique_key="l", on_conflict="error").message_id
        assert isinstance(new, str)  # SQLAlchemy has its sessions read a uuid as an object
        with target.begin_nested() as savepoint:
            send(follow, "gone", key="m")
            savepoint.rollback()
        assert send(follow, "d", key="l") == new
        send(follow, "e", key=None)
        assert tasks() == ["a"]
        target.commit()
        send(follow, "f", key="n")
        target.rollback()

    assert tasks() == ["a", "c", "e"]


def test_a_transactional_actors_sends_are_written_at_its_end(
    broker: PostgresBroker, follow: Any, booked: Any, tasks: Any
) -> None:
    """They keep their ids, and those that give way are not made."""
    first = send(follow, "a", delay=60_000)

    @dramatiq.actor(transactional=True, max_retries=0)
    def book() -> list[str]:
        return [send(follow, "b"), send(follow, "c", key="l", delay=60_000)]

    with working(broker):
        b, c = book.send().get_result(block=True)

    assert b != first
    assert tasks() == ["a", "c"]


def test_a_transactional_actor_fails_with_what_may_not_be_a_duplicate(
    broker: PostgresBroker, follow: Any, booked: Any, rows: Rows
) -> None:
    send(follow, "a", delay=60_000)

    @dramatiq.actor(transactional=True, max_retries=0)
    def book() -> None:
        with pipeline.current_task().cursor() as cursor:
            cursor.execute("INSERT INTO booking VALUES ('x')")
        send(follow, "b", on_conflict="error")

    message = book.send()
    with working(broker):
        eventually(lambda: rows("SELECT 1 FROM pipeline.task_status WHERE actor = 'book' AND state = 'failed'"))

    assert booked() == []
    ((error,),) = rows("SELECT error FROM pipeline.task_status WHERE task_id = %s", message.message_id)
    assert 'the key "k" is held' in error


# --- until the end of the task ----------------------------------------------------------------------------------------


def test_a_key_is_held_while_the_task_runs_and_free_when_it_has_ended(
    broker: PostgresBroker, rows: Rows, states: Callable[[], list[str]]
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @dramatiq.actor(max_retries=0)
    def work() -> None:
        has_begun.set()
        may_end.wait(10)

    first = send(work)
    with working(broker, threads=1):
        assert has_begun.wait(5)
        assert send(work) == first
        assert send(work, on_conflict="replace") == first
        may_end.set()
        eventually(lambda: states() == ["succeeded"])

        assert send(work) != first
        eventually(lambda: states() == ["succeeded"] * 2)
    assert held(rows) == []


def fails() -> None:
    raise ValueError


@pytest.mark.parametrize("how", ["fails", "is too old", "is unreadable", "fails in its transaction"])
def test_a_key_is_free_however_the_task_ends(
    broker: PostgresBroker, rows: Rows, states: Callable[[], list[str]], how: str
) -> None:
    actor = dramatiq.actor(
        fails,
        max_retries=0,
        max_age=1 if how == "is too old" else None,
        transactional=how == "fails in its transaction",
    )
    send(actor)
    if how == "is unreadable":
        rows("""UPDATE pipeline.task SET payload = '{"args": 7}'""")
    with working(broker, threads=1):
        eventually(lambda: states() in (["failed"], ["skipped"]))

    assert held(rows) == []


def test_a_transactional_actor_lets_its_key_go_with_its_commit(broker: PostgresBroker, booked: Any, rows: Rows) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def book() -> str:
        with pipeline.current_task().cursor() as cursor:
            cursor.execute("INSERT INTO booking VALUES ('x')")
        return "booked"

    message = book.send_with_options(unique_key="k")
    with working(broker):
        assert message.get_result(block=True) == "booked"

    assert held(rows) == []


def test_an_idempotency_key_outlives_the_task(broker: PostgresBroker, follow: Any, tasks: Any) -> None:
    def order(what: str, **options: Any) -> str:
        options = {"idempotency_key": "order 7", **options}
        return str(follow.send_with_options(args=(what,), **options).message_id)

    first = order("a")
    with working(broker):
        broker.join("default", timeout=20_000)
        assert order("b") == first
        short = order("c", idempotency_key="short", idempotency_window=1)
        broker.join("default", timeout=20_000)
        assert eventually(lambda: order("d", idempotency_key="short")) != short
        broker.join("default", timeout=20_000)

    assert tasks() == ["a", "c", "d"]


def test_the_hub_goes_on_while_somebodys_transaction_holds_a_key_that_a_follow_up_wants(
    broker: PostgresBroker, follow: Any, connect: Any, rows: Rows
) -> None:
    @dramatiq.actor(max_retries=0)
    def first() -> str:
        return "next"

    connection = connect()
    with pipeline.enlist(connection):
        send(follow, "theirs")
    step = follow.message_with_options(unique_key="k")
    with working(broker):
        (first.message() | step).run()
        eventually(lambda: broker.hub._blocked)
        for _ in range(3):
            assert follow.send("other").get_result(block=True) == "other"
        connection.rollback()
        eventually(lambda: rows("SELECT 1 FROM pipeline.task_status WHERE args->>0 = 'next' AND state = 'succeeded'"))

    assert rows("SELECT count(*) FROM pipeline.attempt_history WHERE outcome <> 'succeeded'") == [(0,)]


def test_a_running_message_with_a_key_that_is_sent_again_says_that_it_runs(broker: PostgresBroker) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @dramatiq.actor(max_retries=0)
    def work() -> None:
        has_begun.set()
        may_end.wait(10)

    message = work.message_with_options(unique_key="k")
    broker.enqueue(message)
    with working(broker, threads=1):
        assert has_begun.wait(5)
        with pytest.raises(TaskIsRunning):
            broker.enqueue(message)
        may_end.set()
