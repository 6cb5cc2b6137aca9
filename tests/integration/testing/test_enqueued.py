"""assert_enqueued: what it accepts, and what it says when there is no such task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from dramatiq.errors import ActorNotFound
from psycopg2.extras import RealDictCursor
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from pipeline import PostgresBroker, QueueUnknown, actor, enlist
from pipeline.db.dsn import Dsn
from pipeline.testing import assert_enqueued, assert_not_enqueued, enqueued

pytestmark = pytest.mark.usefixtures("broker")


@pytest.fixture
def note(broker: PostgresBroker) -> Any:
    @actor(queue_name="notes")
    def note(*args: Any, **kwargs: Any) -> None: ...

    return note


@pytest.fixture
def engine(broker: PostgresBroker) -> Iterator[Any]:
    engine = create_engine(Dsn.parse(broker.url).sqlalchemy)
    yield engine
    engine.dispose()


def complaint(*args: Any, **what: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(*args, **what)
    return str(caught.value)


def test_by_actor_and_by_name(note: Any) -> None:
    assert "nothing waits" in complaint(note)
    assert_not_enqueued(note)
    message = note.send(1)

    (task,) = assert_enqueued(note)
    assert (task.task_id, task.actor, task.queue, task.args, task.attempt) == (
        message.message_id,
        "note",
        "notes",
        (1,),
        0,
    )
    assert assert_enqueued("note") == enqueued() == enqueued(note) == [task]
    with pytest.raises(AssertionError, match="expected 0 tasks, found 1"):
        assert_not_enqueued(note)


def test_arguments_are_compared_as_they_arrive(note: Any) -> None:
    note.send(1, (2, {3: 4}), name="x")

    assert_enqueued(note, 1, (2, {3: 4}), kwargs={"name": "x"})
    assert_enqueued(note, 1, [2, {"3": 4}], kwargs={"name": "x"})
    assert_enqueued(note, ANY, ANY, kwargs={"name": ANY})
    assert_not_enqueued(note, 1)
    assert_not_enqueued(note, 1, (2, {3: 4}))
    assert_not_enqueued(note, 1, (2, {3: 5}), kwargs={"name": "x"})
    assert_not_enqueued(note, kwargs={})


def test_no_arguments_at_all_can_be_asked_for(note: Any) -> None:
    note.send()

    assert_enqueued(note, kwargs={})


def test_a_failure_lists_what_waits(note: Any) -> None:
    note.send_with_options(args=(1, "x"), kwargs={"b": None}, delay=60_000, priority=3)

    assert complaint(note, 2, kwargs={"c": 1}, queue="notes", delay=(5, 1000), count=2) == (
        "expected 2 tasks, found 0: note(2, c=1) in notes, delay 5 to 1,000 ms\n"
        "what waits:\n"
        "  note(1, 'x', b=None) in notes, priority 3, after 60,000 ms, {'priority': 3}"
    )


def test_how_many(note: Any) -> None:
    note.send(1)
    note.send(1)
    note.send(2)

    assert_enqueued(note, 1, count=2)
    assert_enqueued(note, count=3)
    assert "expected 1 task, found 2" in complaint(note, 1, count=1)


def test_when(note: Any) -> None:
    note.send_with_options(args=(1,), delay=3_600_000)
    at = datetime.now(UTC) + timedelta(hours=1)

    assert_enqueued(note, delay=3_600_000)
    assert_enqueued(note, delay=(3_000_000, 4_000_000))
    assert_enqueued(note, eta=(at - timedelta(minutes=1), at + timedelta(minutes=1)))
    assert_not_enqueued(note, delay=0)
    assert_not_enqueued(note, delay=3_000_000)
    assert_not_enqueued(note, eta=at + timedelta(minutes=1))
    note.send(2)
    assert_enqueued(note, 2, delay=0)


def test_options(note: Any) -> None:
    note.send_with_options(max_retries=3, time_limit=5000)

    assert_enqueued(note, options={"max_retries": 3})
    assert_not_enqueued(note, options={"max_retries": 4})
    assert_not_enqueued(note, options={"max_age": None})


def test_what_is_not_committed_is_seen_within_its_session_only(note: Any, engine: Any) -> None:
    note.send("committed")
    with Session(engine) as session:
        with enlist(session):
            note.send_with_options(args=("sent",), delay=60_000)
            assert_enqueued(note, "sent", within=session, delay=60_000, count=1)
            assert_enqueued(note, "committed", within=session)
            assert_not_enqueued(note, "sent")
            with session.begin_nested() as savepoint:
                note.send("rolled back")
                assert_enqueued(note, "rolled back", within=session)
                savepoint.rollback()
            assert_not_enqueued(note, "rolled back", within=session)
        session.commit()
    assert_enqueued(note, "sent", count=1)


def test_looking_changes_nothing(note: Any, engine: Any) -> None:
    with Session(engine) as session, enlist(session):
        note.send(1)
        assert len(enqueued(within=session)) == 1
        session.rollback()
        assert enqueued(within=session) == []
    assert enqueued() == []


@pytest.mark.parametrize("at_exit", [True, False])
def test_within_a_psycopg2_connection(note: Any, connect: Callable[..., Any], at_exit: bool) -> None:
    connection = connect()
    connection.cursor_factory = RealDictCursor
    with enlist(connection, at_exit=at_exit):
        note.send(1)
        assert_enqueued(note, 1, within=connection, count=1)
        assert_not_enqueued(note)
    assert_enqueued(note, 1, within=connection, count=1)
    connection.rollback()
    assert_not_enqueued(note, within=connection)


def test_within_a_core_connection(note: Any, engine: Any) -> None:
    with engine.connect() as connection:
        with enlist(connection):
            note.send(1)
        assert_enqueued(note, 1, within=connection, count=1)
        assert_not_enqueued(note)
        connection.commit()
        assert_enqueued(note, 1, within=connection, count=1)


def test_bad_questions_are_refused(note: Any) -> None:
    note.send()
    with pytest.raises(ActorNotFound, match="No actor 'nite' is declared; there is: note"):
        assert_not_enqueued("nite")
    with pytest.raises(QueueUnknown):
        assert_not_enqueued(note, queue="nowhere")
    for count in (-1, True):
        with pytest.raises(ValueError, match="count is a number of tasks"):
            assert_enqueued(note, count=count)
    with pytest.raises(TypeError, match="takes no count"):
        assert_not_enqueued(note, count=1)
    with pytest.raises(ValueError, match="comes after"):
        assert_enqueued(note, delay=(2, 1))
    with pytest.raises(ValueError, match="time zone"):
        assert_enqueued(note, eta=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused
    with pytest.raises(TypeError):
        assert_enqueued(note, within="a session")
