"""Labels: written wherever a task is made, and by an index each everything is found that has one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import pipeline
from pipeline import MessageNotEncodable, PostgresBroker
from pipeline.db.dsn import Dsn
from tests.fixtures.broker import working

Rows = Callable[..., list[tuple[Any, ...]]]

ALL = {"tags": ["a", "b"], "entity": "invoice:4711", "tenant": "north", "correlation_id": "c1"}


@pytest.fixture
def bill(broker: PostgresBroker) -> dramatiq.Actor:
    @pipeline.actor(max_retries=0)
    def bill(number: int = 0) -> int:
        return number

    return bill


@pytest.fixture
def labels(rows: Rows) -> Callable[[], list[Any]]:
    """The labels of all tasks, in the order of enqueueing; and every tag has its row, and no row is left over."""

    def labels() -> list[Any]:
        found = rows("SELECT id, labels FROM pipeline.task ORDER BY id")
        tags = sorted((tag, id) for id, stored in found for tag in (stored or {}).get("tags", ()))
        assert rows('SELECT tag, task_id FROM pipeline.task_tag ORDER BY tag COLLATE "C", task_id') == tags
        return [stored for _, stored in found]

    return labels


# --- wherever a task is made ------------------------------------------------------------------------------------------


def test_a_send_has_them_prepared_or_not(bill: Any, labels: Any) -> None:
    for _ in range(3):
        bill.send_with_options(**ALL)

    assert labels() == [ALL] * 3


def test_a_task_without_has_none(bill: Any, labels: Any) -> None:
    bill.send()
    pipeline.send_many(bill.message(number) for number in range(2))

    assert labels() == [None] * 3


def test_many_sends_have_each_its_own(bill: Any, labels: Any) -> None:
    entities = [("invoice", number) if number != 1 else None for number in range(3)]
    messages = [bill.message_with_options(entity=entity, tags=["x"] if entity else None) for entity in entities]

    pipeline.send_many(messages)

    assert labels() == [{"tags": ["x"], "entity": "invoice:0"}, None, {"tags": ["x"], "entity": "invoice:2"}]


def test_so_have_many_that_are_not_alike(bill: Any, labels: Any) -> None:
    """Some with keys, some that are known already: these are dealt with one by one."""
    known = bill.send_with_options(delay=60_000, entity="order:1", tags=["old", "kept"])
    messages = [
        bill.message_with_options(unique_key="k", **ALL),
        known.copy(options={"entity": "order:2", "tags": ["kept", "new"]}),
        bill.message_with_options(priority=3, tags=["x"]),
        bill.message(),
    ]
    pipeline.send_many(messages)

    assert labels()[0] == {"tags": ["kept", "new"], "entity": "order:2"}
    assert sorted(map(json.dumps, labels()[1:])) == sorted(map(json.dumps, [ALL, {"tags": ["x"]}, None]))


def test_so_has_a_send_in_a_transaction(bill: Any, database_url: str, connect: Any, labels: Any) -> None:
    engine = create_engine(Dsn.parse(database_url).sqlalchemy, poolclass=NullPool)
    connection = connect()
    with pipeline.enlist(connection):
        bill.send_with_options(**ALL)
    with pipeline.enlist(connection, at_exit=True):
        for _ in range(2):
            bill.send_with_options(**ALL)
    connection.commit()
    with Session(engine) as session, pipeline.enlist(session):
        bill.send_with_options(**ALL)
        bill.send_with_options(unique_key="k", **ALL)
        session.commit()
    engine.dispose()

    assert labels() == [ALL] * 5


def test_a_rolled_back_send_leaves_no_tag(bill: Any, connect: Any, labels: Any) -> None:
    connection = connect()
    with pipeline.enlist(connection):
        bill.send_with_options(**ALL)
    connection.rollback()

    assert labels() == []


def test_an_actor_may_be_declared_with_them(broker: PostgresBroker, labels: Any) -> None:
    @pipeline.actor(tags=["billing"], entity=lambda number: ("invoice", number))
    def bill(number: int) -> None: ...

    bill.send(1)
    bill.send_with_options(args=(2,), tags=["urgent"], entity="order:7")

    assert labels() == [
        {"tags": ["billing"], "entity": "invoice:1"},
        {"tags": ["billing", "urgent"], "entity": "order:7"},
    ]


@pytest.mark.parametrize(
    "wrong", [{"tags": "urgent"}, {"entity": "invoice"}, {"correlation_id": 7}, {"tenant": ""}, {"tags": ["\0"]}]
)
def test_a_wrong_one_is_refused_and_nothing_is_enqueued(bill: Any, labels: Any, wrong: Any) -> None:
    with pytest.raises(MessageNotEncodable):
        bill.send_with_options(**wrong)
    with pytest.raises(MessageNotEncodable):
        pipeline.send_many([bill.message(), bill.message_with_options(**wrong)])

    assert labels() == []


def test_steps_and_callbacks_have_their_own(bill: Any, broker: PostgresBroker, labels: Any, rows: Rows) -> None:
    @pipeline.actor(tags=["after"])
    def after(*_: Any) -> None: ...

    chain = bill.message_with_options(args=(1,), on_success="after", entity=("order", 1)) | after.message_with_options(
        tags={"step"}, pipe_ignore=True
    )
    chain.run()
    work(broker)

    assert sorted(map(json.dumps, labels())) == sorted(
        map(json.dumps, [{"entity": "order:1"}, {"tags": ["after"]}, {"tags": ["after", "step"]}])
    )


def test_they_last_over_all_runs_of_a_task(broker: PostgresBroker, labels: Any, rows: Rows) -> None:
    @pipeline.actor(max_retries=2, min_backoff=1, max_backoff=1)
    def bill() -> None:
        if pipeline.current_task().attempt < 3:
            raise ValueError

    bill.send_with_options(**ALL)
    work(broker)

    assert rows("SELECT count(*) FROM pipeline.attempt") == [(3,)]
    assert labels() == [ALL]


# --- what is sent again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [{}, {"entity": "order:2"}, {"tags": ["b", "c"]}, ALL])
def test_a_message_sent_again_has_its_new_ones_only(
    bill: Any, broker: PostgresBroker, labels: Any, others: Any
) -> None:
    first = bill.send_with_options(delay=60_000, **ALL)
    again = dramatiq.Message("default", "bill", (), {}, others, message_id=first.message_id)

    broker.enqueue(again, delay=60_000)

    assert labels() == [others or None]


def test_so_has_one_that_runs_once_more(bill: Any, broker: PostgresBroker, labels: Any) -> None:
    first = bill.send_with_options(tags=["a"])
    work(broker)

    broker.enqueue(first.copy(options={"tags": ["b"]}))

    assert labels() == [{"tags": ["b"]}]


def test_one_that_gives_way_replaces_those_of_what_waits(bill: Any, labels: Any) -> None:
    bill.send_with_options(unique_key="k", delay=60_000, tags=["a"], entity="order:1")
    bill.send_with_options(unique_key="k", tags=["b"], on_conflict="skip")
    assert labels() == [{"tags": ["a"], "entity": "order:1"}]

    bill.send_with_options(unique_key="k", tags=["b"], on_conflict="replace")

    assert labels() == [{"tags": ["b"]}]


def test_a_carried_task_can_be_relabelled(bill: Any, broker: PostgresBroker, rows: Rows) -> None:
    sent = bill.send_with_options(delay=60_000, tags=["a"])
    rows("WITH gone AS (DELETE FROM pipeline.task RETURNING *) INSERT INTO pipeline.task_carry SELECT * FROM gone")

    broker.enqueue(sent.copy(options={"tags": ["b"]}), delay=60_000)

    assert rows("SELECT labels, tag FROM pipeline.task_carry JOIN pipeline.task_tag ON task_id = id") == [
        ({"tags": ["b"]}, "b")
    ]


# --- from SQL ---------------------------------------------------------------------------------------------------------

ENQUEUE = "SELECT pipeline.enqueue('bill', queue => 'default', options => %s)"


@pytest.fixture
def lane(broker: PostgresBroker) -> None:
    broker.sender.ensure_lanes([("default", 0)])


def test_sql_can_say_them_too(lane: None, rows: Rows, labels: Any) -> None:
    rows(ENQUEUE, json.dumps(ALL | {"tags": ["b", "a", "b"], "entity": ["invoice", 4711]}))
    rows(ENQUEUE, '{"tags": [], "entity": null}')

    assert labels() == [ALL, None]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tags": "urgent"}, "tags are no array of texts"),
        ({"tags": ["x"] * 21}, "there are 21 tags; 20 are allowed"),
        *[({"tags": [tag]}, "a tag is no text of 1 to 100 bytes") for tag in ("", "x" * 101, 7, None, ["a"])],
        *[
            ({"entity": entity}, "the entity is no text of the form kind:id")
            for entity in (
                "invoice",
                ":1",
                "a:",
                7,
                ["a"],
                ["", 1],
                ["a:b", 1],
                ["a", True],
                ["a", 1.5],
                "a:" + "x" * 199,
            )
        ],
        *[
            ({"correlation_id": x}, "the correlation_id is no text of 1 to 200 bytes")
            for x in ("", 7, ["a"], "x" * 201)
        ],
        ({"tenant": 7}, "the tenant is no text of 1 to 512 bytes"),
    ],
)
def test_sql_is_told_what_is_wrong(lane: None, rows: Rows, labels: Any, options: Any, complaint: str) -> None:
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match=complaint):
        rows(ENQUEUE, json.dumps(options))

    assert labels() == []


# --- how they are found -----------------------------------------------------------------------------------------------

FOUND_BY = {
    "task_entity_idx": "labels->>'entity' = 'invoice:4711'",
    "task_tenant_idx": "labels->>'tenant' = 'north'",
    "task_correlation_idx": "labels->>'correlation_id' = 'c1'",
    "task_parent_idx": "parent = 1",
}


@pytest.mark.parametrize("index", FOUND_BY)
def test_the_newest_of_each_are_a_range_of_its_index(index: str, connect: Any) -> None:
    question = f"SELECT id FROM pipeline.task WHERE {FOUND_BY[index]} ORDER BY id DESC LIMIT 50"

    assert indexes_of(question, connect) == {index}


def test_the_newest_of_a_tag_are_a_range_of_its_key(connect: Any) -> None:
    question = "SELECT task_id FROM pipeline.task_tag WHERE tag = 'urgent' ORDER BY task_id DESC LIMIT 50"

    assert indexes_of(question, connect) == {"task_tag_pkey"}


def test_tasks_without_are_in_none_of_these_indexes(bill: Any, broker: PostgresBroker, rows: Rows) -> None:
    """So they pay nothing for them: only the page is there with which an index begins."""
    sizes = """
        SELECT p.relname, sum(pg_relation_size(i.inhrelid)) / count(*) / current_setting('block_size')::int
          FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid WHERE p.relname = ANY (%s) GROUP BY 1 ORDER BY 1"""
    names = sorted([*FOUND_BY, "task_tag_pkey"])
    bill.send()
    pipeline.send_many(bill.message(number) for number in range(300))

    assert rows(sizes, names) == [(name, 1) for name in names]
    bill.send_with_options(**ALL)
    assert {name for name, pages in rows(sizes, names) if pages > 1} == {*names} - {"task_parent_idx"}


def test_what_became_of_an_entity_is_one_query(bill: Any, broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(max_retries=0, entity=lambda number: ("invoice", number))
    def dun(number: int) -> None:
        raise LookupError(number)

    bill.send_with_options(args=(1,), entity="invoice:4711")
    bill.send_with_options(args=(2,), entity="invoice:4712")
    dun.send(4711)
    work(broker)
    bill.send_with_options(args=(3,), entity="invoice:4711")

    assert rows("SELECT actor, state, error FROM pipeline.task_status WHERE entity = 'invoice:4711' ORDER BY id") == [
        ("bill", "succeeded", None),
        ("dun", "failed", "LookupError: 4711"),
        ("bill", "queued", None),
    ]


def work(broker: PostgresBroker) -> None:
    with working(broker, threads=1):
        broker.join("default", timeout=20_000)


def indexes_of(question: str, connect: Any) -> set[str]:
    """Which indexes a question reads, where tables are as large that none is read as a whole; it must sort nothing."""
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {question}")
        ((plan,),) = cursor.fetchall()
        nodes = list(nodes_of(plan[0]["Plan"]))
        assert {node["Node Type"] for node in nodes} <= {
            *("Limit", "Append", "Merge Append", "Index Scan", "Index Only Scan"),
        }
        names = [node["Index Name"] for node in nodes if "Index Name" in node]
        cursor.execute(
            "SELECT DISTINCT coalesce(p.relname, c.relname) FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
            " LEFT JOIN pg_class p ON p.oid = i.inhparent WHERE c.relname = ANY (%s)",
            (names,),
        )
        return {name for (name,) in cursor.fetchall()}


def nodes_of(plan: dict[str, Any]) -> Any:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes_of(each)
