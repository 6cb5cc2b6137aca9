"""Cancel, on its own and as a part of something larger."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import pipeline
from pipeline import PostgresBroker, TaskNotCancellable, TaskNotFound, cancel
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
        cancel(task_id, who="ada", reason="no longer needed")

    assert states() == ["cancelled"]
    assert rows("SELECT action, who, reason FROM pipeline.audit") == [("cancel", "ada", "no longer needed")]


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "no id", ""])
def test_an_unknown_task_is_not_found(broker: PostgresBroker, task_id: str) -> None:
    with pytest.raises(TaskNotFound):
        cancel(task_id, who="ada")


def test_a_task_that_has_ended_stays_as_it_is(broker: PostgresBroker, greet: Any, states: Callable[[], Any]) -> None:
    message = greet.send()
    with working(broker, threads=1):
        eventually(lambda: states() == ["succeeded"])

    with pytest.raises(TaskNotCancellable) as caught:
        cancel(message.message_id, who="ada")

    assert caught.value.state == "succeeded"
    assert states() == ["succeeded"]


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
