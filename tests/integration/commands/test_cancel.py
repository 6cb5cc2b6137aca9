"""Cancel, on its own and as a part of something larger."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import pipeline
from pipeline import (
    CancelCounts,
    PostgresBroker,
    QueueUnknown,
    TaskNotCancellable,
    TaskNotFound,
    TaskState,
    cancel,
    cancel_where,
)
from pipeline.db.dsn import Dsn
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually


@pytest.fixture
def greet(broker: PostgresBroker) -> Any:
    @pipeline.actor
    def greet() -> str:
        return "hello"

    return greet


def test_it_is_noted_who_and_why_once(greet: Any, rows: Callable[..., Any], states: Callable[[], Any]) -> None:
    task_id = greet.send().message_id

    for _ in range(2):
        assert cancel(task_id, who="ada", reason="no longer needed") is TaskState.CANCELLED

    assert states() == ["cancelled"]
    assert rows("SELECT action, who, reason FROM pipeline.audit") == [("cancel", "ada", "no longer needed")]


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "no id", ""])
def test_an_unknown_task_is_not_found(broker: PostgresBroker, task_id: str) -> None:
    with pytest.raises(TaskNotFound):
        cancel(task_id, who="ada")


def test_a_task_that_has_ended_stays_as_it_is(
    broker: PostgresBroker, greet: Any, states: Callable[[], Any], rows: Callable[..., Any]
) -> None:
    message = greet.send()
    with working(broker, threads=1):
        eventually(lambda: states() == ["succeeded"])

    for what in (message, message.message_id, pipeline.group([message])):
        for options in ({}, {"whole": True}, {"force": True}):
            with pytest.raises(TaskNotCancellable, match="is succeeded") as caught:
                cancel(what, who="ada", **options)
            assert caught.value.state == "succeeded"

    assert states() == ["succeeded"]
    assert rows("SELECT count(*) FROM pipeline.audit") == [(0,)]
    assert rows("SELECT count(*) FROM pipeline.cancel_request") == [(0,)]


def test_it_belongs_to_the_callers_transaction(
    greet: Any, connect: Callable[..., Any], database_url: str, states: Callable[[], Any]
) -> None:
    task_id = greet.send().message_id
    connection = connect()
    engine = create_engine(Dsn.parse(database_url).sqlalchemy)
    with Session(engine) as session, engine.connect() as core:
        for target in (connection, session, core):
            cancel(task_id, who="ada", target=target)
            assert states() == ["queued"]
            target.rollback()
        assert states() == ["queued"]

        cancel(task_id, who="ada", target=session)
        session.commit()
    engine.dispose()

    assert states() == ["cancelled"]


def test_a_target_must_be_a_connection_or_a_session(greet: Any) -> None:
    with pytest.raises(TypeError, match="not int"):
        cancel(greet.send().message_id, who="ada", target=7)


@pytest.mark.parametrize("compose", [pipeline.group, pipeline.chain])
def test_what_was_never_run_is_not_found(greet: Any, compose: Any, rows: Callable[..., Any]) -> None:
    with pytest.raises(TaskNotFound):
        cancel(compose([greet.message(), greet.message()]), who="ada")

    assert rows("SELECT count(*) FROM pipeline.cancel_request") == [(0,)]


def test_a_negative_grace_is_refused_and_changes_nothing(greet: Any, states: Callable[[], Any]) -> None:
    task_id = greet.send().message_id
    for force in (True, False):
        with pytest.raises(ValueError, match="The grace cannot be negative"):
            cancel(task_id, who="ada", force=force, grace=timedelta(seconds=-1))

    assert states() == ["queued"]


# --- by filter --------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(broker: PostgresBroker, rows: Callable[..., Any]) -> None:
    """Two queues and three actors: some tasks wait, two run, one has ended."""

    @pipeline.actor(queue_name="letters")
    def write() -> None: ...

    @pipeline.actor(queue_name="letters")
    def post() -> None: ...

    @pipeline.actor(queue_name="others")
    def other() -> None: ...

    for actor in (write, write, other):  # claimed: the oldest of each queue
        actor.send()
    rows("SELECT pipeline.register_worker_v1('here', 1, 4, '{}', '{}')")
    exchange = (
        "SELECT message_id::text FROM pipeline.exchange_v1((SELECT max(worker_id) FROM pipeline.worker), 1, '{}', '{}',"
        " '{}', '{}', '{}', '{}', '{}', '{}', NULL, false, '{}', '{letters,others}', 3, NULL, NULL) WHERE id IS NOT NULL"
    )
    claimed = rows(exchange)
    assert len(claimed) == 3
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT id, 1, 1, 's', now() FROM pipeline.task ORDER BY id LIMIT 1"
    )
    for actor in (write, write, post, other):
        actor.send()
    post.send_with_options(delay=60_000)
    rows("UPDATE pipeline.task SET created_at = created_at - interval '1 hour' WHERE actor = 'post'")


FILTERS = [
    ({"queue": "letters"}, (4, 1)),
    ({"queue": "others"}, (1, 1)),
    ({"actor": "write"}, (2, 1)),
    ({"actor": "post"}, (2, 0)),
    ({"actor": "nobody"}, (0, 0)),
    ({"queue": "others", "actor": "write"}, (0, 0)),
    ({"state": "waiting"}, (5, 0)),
    ({"state": "running"}, (0, 2)),
    ({"queue": "letters", "state": "running"}, (0, 1)),
    ({"older_than": timedelta(minutes=30)}, (2, 0)),
    ({"older_than": timedelta(0)}, (5, 2)),
    ({"older_than": timedelta(hours=2)}, (0, 0)),
]
leaves_its_worker = pytest.mark.leaves("claim", "worker")


@leaves_its_worker
@pytest.mark.parametrize(("which", "counts"), FILTERS, ids=[str(which) for which, _ in FILTERS])
def test_a_filter_counts_first_and_then_does_what_it_counted(
    many: None, states: Callable[[], Any], rows: Callable[..., Any], which: Any, counts: tuple[int, int]
) -> None:
    before = states()
    assert cancel_where(who="ada", **which) == CancelCounts(*counts)
    assert states() == before
    for table in ("audit", "cancel_request"):
        assert rows(f"SELECT count(*) FROM pipeline.{table}") == [(0,)]

    assert cancel_where(who="ada", reason="a mistake", dry_run=False, **which) == CancelCounts(*counts)

    assert states().count("cancelled") == counts[0]
    assert rows("SELECT count(*) FROM pipeline.cancel_request WHERE who = 'ada'") == [(counts[1],)]
    assert rows("SELECT DISTINCT error FROM pipeline.task_status WHERE state = 'cancelled'") in (
        [],
        [("Cancelled: a mistake",)],
    )
    assert rows("SELECT action, who, queue FROM pipeline.audit") == [("cancel_where", "ada", which.get("queue"))]
    again = cancel_where(who="ada", dry_run=False, **which)
    assert again == CancelCounts(0, counts[1])


@leaves_its_worker
def test_a_filter_may_force_and_belongs_to_the_callers_transaction(
    many: None, connect: Callable[..., Any], states: Callable[[], Any], rows: Callable[..., Any]
) -> None:
    connection, before = connect(), states()
    cancel_where(who="ada", queue="letters", force=True, dry_run=False, target=connection)
    assert states() == before
    connection.rollback()
    assert states() == before

    cancel_where(who="ada", queue="letters", force=True, dry_run=False, target=connection)
    connection.commit()
    assert states().count("cancelled") == 4
    assert rows("SELECT kill_at > requested_at + interval '4 s' FROM pipeline.cancel_request") == [(True,)]


@pytest.mark.parametrize(
    ("which", "error", "complaint"),
    [
        ({}, ValueError, "nothing here cancels everything"),
        ({"state": "succeeded"}, ValueError, "'waiting' or 'running', not 'succeeded'"),
        ({"older_than": timedelta(seconds=-1)}, ValueError, "The age cannot be negative"),
        ({"queue": "lettters"}, QueueUnknown, "There is no queue lettters"),
    ],
)
def test_a_filter_that_makes_no_sense_changes_nothing(
    greet: Any, states: Callable[[], Any], which: Any, error: type[Exception], complaint: str
) -> None:
    greet.send()
    for dry_run in (True, False):
        with pytest.raises(error, match=complaint):
            cancel_where(who="ada", dry_run=dry_run, **which)

    assert states() == ["queued"]
