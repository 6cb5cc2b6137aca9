"""Whatever a running task sends is its child, by every way of sending, and has its correlation id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import pipeline
from pipeline import PostgresBroker, current_task
from pipeline.db.dsn import Dsn
from tests.fixtures.broker import working

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def child(broker: PostgresBroker) -> dramatiq.Actor:
    @pipeline.actor(max_retries=0)
    def child(name: str = "child", *_: Any) -> None: ...

    return child


@pytest.fixture
def family(rows: Rows) -> Callable[[], list[tuple[str, str | None, str | None]]]:
    """Each task by its first argument: its parent, and its correlation id."""
    return lambda: rows(
        "SELECT t.payload->'args'->>0, p.payload->'args'->>0, t.labels->>'correlation_id'"
        "  FROM pipeline.task t LEFT JOIN pipeline.task p ON p.id = t.parent ORDER BY t.id"
    )


def work(broker: PostgresBroker, threads: int = 1) -> None:
    with working(broker, threads=threads):
        broker.join("default", timeout=20_000)


def start(actor: Any, *args: Any, **options: Any) -> Any:
    return actor.send_with_options(args=("root", *args), correlation_id="c1", **options)


CHILDREN = [("root", None, "c1"), ("one", "root", "c1"), ("two", "root", "c1"), ("three", "root", "c1")]


def send_three(child: Any) -> None:
    child.send("one")
    pipeline.send_many([child.message("two"), child.message("three")])


def test_what_a_plain_actor_sends(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        send_three(child)

    start(act)
    work(broker)

    assert family() == CHILDREN


def test_what_a_transactional_actor_sends(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0, transactional=True)
    def act(name: str) -> None:
        send_three(child)

    start(act)
    work(broker)

    assert family() == CHILDREN


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_step_sends(child: Any, broker: PostgresBroker, family: Any, count: int) -> None:
    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        current_task().checkpoint()
        with current_task().step():
            for number in ("one", "two", "three")[:count]:
                child.send(number)

    start(act)
    work(broker)

    assert family() == CHILDREN[: count + 1]


def test_what_an_actor_sends_in_transactions_of_its_own(
    child: Any, broker: PostgresBroker, family: Any, database_url: str
) -> None:
    engine = create_engine(Dsn.parse(database_url).sqlalchemy, poolclass=NullPool)

    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        with psycopg2.connect(database_url) as connection, pipeline.enlist(connection):
            child.send("one")
        connection.close()
        with Session(engine) as session, pipeline.enlist(session):
            pipeline.send_many([child.message("two"), child.message("three")])
            session.commit()

    start(act)
    work(broker)
    engine.dispose()

    assert family() == CHILDREN


def test_the_next_steps_of_a_chain(child: Any, broker: PostgresBroker, family: Any) -> None:
    first = child.message_with_options(args=("one",), correlation_id="c1")
    (first | child.message("two") | child.message("three")).run()
    work(broker)

    assert family() == [("one", None, "c1"), ("two", "one", "c1"), ("three", "two", "c1")]


def test_callbacks(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0)
    def act(name: str) -> str:
        if name == "bad":
            raise ValueError
        return "told"

    @pipeline.actor
    def mourn(message: Any, error: Any) -> None: ...

    act.send_with_options(args=("good",), on_success="child", correlation_id="c1")
    act.send_with_options(args=("bad",), on_failure="mourn", correlation_id="c2")
    work(broker)

    told, mourned = family()[2:]
    assert told[1:] == ("good", "c1")
    assert mourned[1:] == ("bad", "c2")


def test_the_callback_of_a_group_is_the_child_of_its_last_member(
    child: Any, broker: PostgresBroker, family: Any
) -> None:
    group = dramatiq.group([child.message_with_options(args=(name,), correlation_id="c1") for name in ("a", "b")])
    group.add_completion_callback(child.message("done"))
    group.run()
    work(broker)

    assert family() == [("a", None, "c1"), ("b", None, "c1"), ("done", "b", "c1")]


def test_it_goes_on_over_generations(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0)
    def parent(name: str) -> None:
        child.send("grandchild")

    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        parent.send("child")

    start(act)
    work(broker)

    assert family() == [("root", None, "c1"), ("child", "root", "c1"), ("grandchild", "child", "c1")]


def test_a_message_may_name_another_correlation_id_or_none(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        assert current_task().correlation_id == "c1"
        child.send_with_options(args=("other",), correlation_id="c2")
        child.send_with_options(args=("none",), correlation_id=None)

    start(act)
    work(broker)

    assert family()[1:] == [("other", "root", "c2"), ("none", "root", None)]


def test_without_a_correlation_id_there_is_none_to_hand_on(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=0)
    def act(name: str) -> None:
        assert current_task().correlation_id is None
        child.send("one")

    act.send("root")
    work(broker)

    assert family() == [("root", None, None), ("one", "root", None)]


def test_two_tasks_that_send_in_one_transaction_are_each_the_parent_of_its_own(
    child: Any, broker: PostgresBroker, family: Any, database_url: str
) -> None:
    engine = create_engine(Dsn.parse(database_url).sqlalchemy, poolclass=NullPool)
    turns = threading.Barrier(2)
    with Session(engine) as session:

        @pipeline.actor(max_retries=0)
        def act(name: str) -> None:
            for turn in ("a", "b"):
                turns.wait(10)
                if turn == name:
                    with pipeline.enlist(session):
                        child.send(f"child of {name}")

        for name in ("a", "b"):
            act.send_with_options(args=(name,), correlation_id=f"of {name}")
        work(broker, threads=2)
        with pipeline.enlist(session):
            child.send("of nobody")
        session.commit()
    engine.dispose()

    assert family()[2:] == [
        ("child of a", "a", "of a"),
        ("child of b", "b", "of b"),
        ("of nobody", None, None),
    ]


def test_a_later_run_sends_in_the_same_name(child: Any, broker: PostgresBroker, family: Any) -> None:
    @pipeline.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def act(name: str) -> None:
        if current_task().attempt == 1:
            raise ValueError
        child.send("one")

    start(act)
    work(broker)

    assert family() == CHILDREN[:2]
