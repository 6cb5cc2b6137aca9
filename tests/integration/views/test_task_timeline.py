"""What has happened to a task and when, in one view; by id it is read from indexes only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker, current_task
from pipeline.runtime import ask
from pipeline.store.timeline import TimelineRow, timeline
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]

#: Tables as small as the workers are many: they have no index by task, and are read whole.
SMALL = {"claim", "worker", "cancel_request"}


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def work(broker: PostgresBroker, gate: threading.Event) -> Any:
    """Fail once, then wait for the gate, or as it is told."""

    @pipeline.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def work(what: str = "end") -> None:
        if what == "retry" and current_task().run == 1:
            raise ValueError("once")
        if what == "wait":
            gate.wait(20)

    broker.sender.ensure_lanes([("default", 0), ("default", 5)])
    return work


def events(task_id: str) -> list[TimelineRow]:
    return ask(timeline, task_id)


def names(task_id: str) -> list[str]:
    return [each.event for each in events(task_id)]


def test_a_task_that_was_retried_shows_each_of_its_runs(work: Any, broker: PostgresBroker) -> None:
    task_id = work.send("retry").message_id
    with working(broker):
        broker.join("default", timeout=20_000)

    told = events(task_id)

    assert [(each.event, each.run) for each in told] == [
        ("enqueued", None),
        ("started", 1),
        ("retry", 1),
        ("started", 2),
        ("succeeded", 2),
    ]
    assert [each.at for each in told] == sorted(each.at for each in told)
    assert told[0].detail == "sent"
    assert (told[2].detail or "").startswith("ValueError: once; next run due 20")
    assert all(each.worker_id for each in told[1:])


def test_a_task_that_waits_shows_when_it_is_due(work: Any, rows: Rows) -> None:
    at_once, later = work.send().message_id, work.send_with_options(delay=60_000).message_id

    assert names(at_once) == ["enqueued", "due"]
    _, due = events(later)
    assert (due.event, due.run) == ("due", 1)
    assert due.at - events(later)[0].at == timedelta(minutes=1)


def test_a_task_that_was_delayed_shows_when_it_was_due(work: Any, broker: PostgresBroker) -> None:
    task_id = work.send_with_options(delay=50).message_id
    with working(broker):
        broker.join("default", timeout=20_000)

    assert names(task_id) == ["enqueued", "due", "started", "succeeded"]


def test_a_running_task_shows_who_has_claimed_it_and_since_when_it_runs(
    work: Any, broker: PostgresBroker, gate: threading.Event
) -> None:
    task_id = work.send("wait").message_id
    with working(broker):
        eventually(lambda: names(task_id) == ["enqueued", "claimed", "started"])
        claimed, started = events(task_id)[1:]
        assert (claimed.run, claimed.worker_id) == (started.run, started.worker_id) == (1, broker.hub.worker_id)
        gate.set()
        broker.join("default", timeout=20_000)


def test_commands_of_operators_stand_between_what_the_task_did(work: Any, rows: Rows) -> None:
    task_id = work.send_with_options(delay=60_000).message_id
    pipeline.reprioritise(task_id, 5, who="ada", reason="not so urgent")
    pipeline.reschedule(task_id, eta=datetime(2100, 1, 1, tzinfo=UTC), who="bob")
    told = events(task_id)
    assert [(each.event, each.who) for each in told] == [
        ("enqueued", None),
        ("reprioritise", "ada"),
        ("reschedule", "bob"),
        ("due", None),
    ]
    assert told[1].detail == "not so urgent; priority: 0 → priority: 5"
    assert told[3].at == datetime(2100, 1, 1, tzinfo=UTC)

    pipeline.cancel(task_id, who="eve", reason="no more")

    # It was never due: what its sender wanted was changed before.
    assert names(task_id)[:3] == ["enqueued", "reprioritise", "reschedule"]
    assert {(each.event, each.who) for each in events(task_id)[3:]} == {("cancel", "eve"), ("cancelled", "eve")}


@pytest.mark.leaves("claim", "worker")
def test_a_request_to_end_is_shown_until_it_is_obeyed(work: Any, rows: Rows) -> None:
    task_id = work.send().message_id
    worker = rows("SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')")[0][0]
    nothing = ", ".join(["'{}'"] * 8)
    rows(
        f"SELECT * FROM pipeline.exchange_v1({worker}, 1, {nothing}, NULL, false, '{{}}', '{{default}}', 1, NULL, NULL)"
    )

    pipeline.cancel(task_id, who="ada", reason="no more", force=True)

    told = {each.event: each for each in events(task_id)}
    assert set(told) == {"enqueued", "claimed", "cancel", "cancelling"}
    assert (told["cancelling"].who, (told["cancelling"].detail or "")[:17]) == ("ada", "no more; killed 2")
    assert (told["cancel"].detail or "").startswith("no more; state: running → ")


def test_a_carried_task_has_its_timeline_too(work: Any, broker: PostgresBroker, rows: Rows) -> None:
    task_id = work.send("retry").message_id
    rows("WITH gone AS (DELETE FROM pipeline.task RETURNING *) INSERT INTO pipeline.task_carry SELECT * FROM gone")
    with working(broker):
        broker.join("default", timeout=20_000)

    assert names(task_id) == ["enqueued", "started", "retry", "started", "succeeded"]


def test_an_unknown_task_has_no_timeline(work: Any) -> None:
    assert events("00000000-0000-4000-8000-000000000000") == []


@pytest.fixture
def many(rows: Rows) -> int:
    """Ten more partitions and so many rows that nobody would read them whole; the id of one task."""
    week = rows("SELECT pipeline.week_at(now())")[0][0]
    for each in range(week - 10, week):
        rows("SELECT pipeline.make_partition_v1('task', %s), pipeline.make_partition_v1('attempt', %s)", each, each)
        rows(
            "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
            " SELECT pipeline.first_id(%s) + n, now(), now(), gen_random_uuid(), 1, 's', 'a', '{}'"
            " FROM generate_series(1, 2000) n",
            each,
        )
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT id, 1, 1, 's', now() FROM pipeline.task"
    )
    rows("INSERT INTO pipeline.ready SELECT -n, now(), 1, 1 FROM generate_series(1, 5000) n")
    rows("INSERT INTO pipeline.parked SELECT -n - 9999, now(), 1, 1, 0, 'key:a' FROM generate_series(1, 5000) n")
    rows("INSERT INTO pipeline.audit (action, who, task_id) SELECT 'x', 'y', -n FROM generate_series(1, 5000) n")
    rows(
        "INSERT INTO pipeline.task_carry SELECT -id, eta, created_at, parent, gen_random_uuid(), lane_id, origin, actor,"
        " payload, keys, labels FROM pipeline.task LIMIT 5000"
    )
    rows(
        "ANALYZE pipeline.task, pipeline.attempt, pipeline.ready, pipeline.parked, pipeline.audit, pipeline.task_carry"
    )
    return rows("SELECT pipeline.first_id(%s) + 77", week - 5)[0][0]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_by_id_it_takes_less_than_a_millisecond(rows: Rows, many: int) -> None:
    """As a function that is planned once for each session; the quickest of many, for others are at work here, too."""
    times = []
    for _ in range(50):
        (plan,) = rows("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM pipeline.timeline_v1(%s)", many)[0][0]
        times.append(plan["Planning Time"] + plan["Execution Time"])

    assert min(times) < 1


def rows_read(node: dict[str, Any]) -> float:
    """Count them; of an empty partition there is nothing to read."""
    return float(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))


@pytest.mark.parametrize(
    "question", ["id = {id}", "id = pipeline.find_task_v1('{uuid}')", "task_id = '{uuid}'"], ids=["id", "found", "uuid"]
)
def test_it_is_read_from_indexes_only_whatever_there_is_beside_it(rows: Rows, many: int, question: str) -> None:
    uuid = rows("SELECT message_id FROM pipeline.task WHERE id = %s", many)[0][0]
    asked = f"SELECT * FROM pipeline.task_timeline WHERE {question.format(id=many, uuid=uuid)}"

    rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}")  # with warm caches then
    (found,) = rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {asked}")[0][0]

    read = {
        each["Relation Name"] for each in nodes(found["Plan"]) if each["Node Type"] == "Seq Scan" and rows_read(each)
    }
    assert read <= SMALL
    assert found["Plan"]["Actual Rows"] == 2
    assert (
        found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"] < 400
    )  # 15 asks find_task_v1 more often
