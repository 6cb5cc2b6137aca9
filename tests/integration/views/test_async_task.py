"""AsyncTask: the status table's successor, as an object of SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import dramatiq
import pytest
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.orm import Session

from pipeline import PostgresBroker, TaskState
from pipeline.db.dsn import Dsn
from pipeline.errors import ReadOnly
from pipeline.integrations.async_task import AsyncTask
from pipeline.store.tasks import TaskRow
from tests.fixtures.broker import working


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    engine = create_engine(Dsn.parse(database_url).sqlalchemy)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def divide(broker: PostgresBroker) -> dramatiq.Actor:
    @dramatiq.actor(max_retries=0)
    def divide(a: int, b: int) -> float:
        return a / b

    return divide


def test_a_task_has_the_names_of_the_old_status_table(broker: PostgresBroker, session: Session, divide: Any) -> None:
    good, bad = divide.send(6, 3), divide.send(1, 0)
    with working(broker):
        broker.join("default", timeout=10_000)

    task = session.get(AsyncTask, good.message_id)
    assert (task.task_id, task.name, task.status, task.progress) == (good.message_id, "divide", "succeeded", 100)
    assert (task.error_message, task.result, task.args, task.kwargs) == (None, 2.0, [6, 3], {})
    assert task.created_at <= task.started_at <= task.finished_at

    failed = session.get(AsyncTask, bad.message_id)
    assert (failed.status, failed.error_message) == (TaskState.FAILED, "ZeroDivisionError: division by zero")


def test_it_is_asked_by_the_columns_of_the_view(session: Session, divide: Any) -> None:
    sent = {divide.send(1, 1).message_id for _ in range(3)}

    queued = session.scalars(select(AsyncTask).where(AsyncTask.status == "queued").order_by(AsyncTask.id.desc())).all()
    assert {task.task_id for task in queued} == sent


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "nonsense", "", "4711"])
def test_an_unknown_id_is_none(session: Session, divide: Any, task_id: str) -> None:
    divide.send(1, 1)

    assert session.get(AsyncTask, task_id) is None


def test_an_id_may_be_written_in_any_way_that_a_uuid_is(session: Session, divide: Any) -> None:
    sent = divide.send(1, 1).message_id

    assert session.get(AsyncTask, sent.upper()).task_id == sent


def test_it_only_reads(session: Session, divide: Any) -> None:
    task = session.get(AsyncTask, divide.send(1, 1).message_id)
    for change in (lambda: setattr(task, "note", "mine"), lambda: session.delete(task)):
        change()
        with pytest.raises(ReadOnly, match=r"commands, such as pipeline\.cancel"):
            session.flush()
        session.rollback()
    session.add(AsyncTask(task_id=task.task_id))
    with pytest.raises(ReadOnly):
        session.flush()


def test_arguments_are_not_read_unless_asked_for(session: Session, divide: Any) -> None:
    task = session.get(AsyncTask, divide.send(1, 1).message_id)

    assert {"args", "kwargs", "result"} <= inspect(task).unloaded
    assert "[1, 1]" not in repr(task)


def test_the_model_the_row_and_the_view_have_the_same_columns(rows: Any) -> None:
    columns = [
        name
        for (name,) in rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'pipeline.task_status'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ]

    assert [field.name for field in fields(TaskRow)] == columns
    assert [column.name for column in AsyncTask.__table__.columns] == columns
