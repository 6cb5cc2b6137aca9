"""PIPELINE_EAGER with a database: transactions are real, and no task is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from pipeline import PostgresBroker, current_task
from pipeline.db.dsn import Dsn
from pipeline.runtime import actor, enlist
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def broker(empty_database_url: str) -> Iterator[PostgresBroker]:
    """An eager broker on a database in which nothing of ours is: none of it is needed."""
    settings = Settings(database_url=empty_database_url, eager=True)
    with global_broker(PostgresBroker(settings=settings)) as made:
        yield made


@pytest.fixture
def rows(empty_database_url: str) -> Iterator[Rows]:
    connection = psycopg2.connect(empty_database_url)
    connection.autocommit = True

    def ask(question: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall() if cursor.description else []

    ask("CREATE TABLE note (id int PRIMARY KEY, CHECK (id < 100))")
    ask("ALTER TABLE note ADD twin int REFERENCES note DEFERRABLE INITIALLY DEFERRED")
    yield ask
    connection.close()


@pytest.fixture
def session(broker: PostgresBroker) -> Iterator[Session]:
    engine = create_engine(Dsn.parse(broker.url).sqlalchemy)
    with Session(engine) as session:
        yield session
    engine.dispose()


def insert(value: int, twin: int | None = None) -> None:
    current_task().session.execute(text("INSERT INTO note VALUES (:v, :t)"), {"v": value, "t": twin})


@pytest.mark.usefixtures("broker")
def test_a_transactional_actor_commits_when_it_returns(rows: Rows) -> None:
    @actor(transactional=True)
    def write(value: int) -> int:
        insert(value)
        assert rows("SELECT id FROM note") == []
        return value

    assert write.send(1).get_result() == 1
    assert rows("SELECT id FROM note") == [(1,)]


@pytest.mark.usefixtures("broker")
def test_a_transactional_actor_that_raises_leaves_nothing_and_sends_nothing(rows: Rows) -> None:
    sent = []

    @actor
    def follow() -> None:
        sent.append(1)

    @actor(transactional=True, max_retries=0)
    def write() -> None:
        insert(1)
        follow.send()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write.send()

    assert (rows("SELECT id FROM note"), sent) == ([], [])


@pytest.mark.usefixtures("broker")
def test_what_a_transactional_actor_sends_runs_after_its_commit(rows: Rows) -> None:
    seen = []

    @actor
    def follow() -> None:
        seen.extend(rows("SELECT id FROM note"))

    @actor(transactional=True)
    def write() -> None:
        insert(1)
        with current_task().session.begin_nested() as savepoint:
            follow.send()
            savepoint.rollback()
        follow.send()
        assert seen == []

    write.send()

    assert seen == [(1,)]


@pytest.mark.usefixtures("broker")
def test_an_error_of_the_commit_is_the_tasks_failure(rows: Rows) -> None:
    attempts = []

    @actor(transactional=True, max_retries=1)
    def write() -> None:
        attempts.append(current_task().attempt)
        insert(1, twin=99)

    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        write.send()

    assert attempts == [1, 2]
    assert rows("SELECT id FROM note") == []


@pytest.mark.usefixtures("broker")
def test_a_step_commits_and_a_retry_goes_on_behind_it(rows: Rows) -> None:
    found, followed = [], []

    @actor
    def follow(value: int) -> None:
        followed.append((value, len(rows("SELECT id FROM note"))))

    @actor
    def long() -> None:
        task = current_task()
        found.append(task.checkpoint())
        for value in range(found[-1] or 0, 4):
            with task.step() as step:
                step.session.execute(text("INSERT INTO note VALUES (:v)"), {"v": value})
                follow.send(value)
                step.cursor = value + 1
            if value == 1 and task.attempt == 1:
                raise ConnectionError

    long.send()

    assert found == [None, 2]
    assert followed == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.usefixtures("broker")
def test_what_is_sent_in_a_session_runs_after_its_commit(rows: Rows, session: Session) -> None:
    seen = []

    @actor(transactional=True, max_retries=0)
    def read(value: int) -> None:
        current_task().session.execute(text("UPDATE note SET twin = id"))  # waits for ever unless that is committed
        seen.append((value, rows("SELECT count(*) FROM note")[0][0]))

    with session.begin(), enlist(session):
        session.execute(text("INSERT INTO note VALUES (1)"))
        session.flush()
        read.send(1)
        assert seen == []
    assert seen == [(1, 1)]

    with session.begin():
        session.execute(text("SELECT 1"))
    assert seen == [(1, 1)]


@pytest.mark.usefixtures("broker", "rows")
def test_what_is_sent_in_a_session_that_rolls_back_never_runs(session: Session) -> None:
    seen = []

    @actor
    def note(value: int) -> None:
        seen.append(value)

    with enlist(session):
        note.send(1)
    session.rollback()
    with session.begin(), enlist(session):
        with session.begin_nested() as savepoint:
            note.send(2)
            savepoint.rollback()
        note.send(3)

    assert seen == [3]


@pytest.mark.usefixtures("broker", "rows")
def test_what_is_sent_in_a_session_whose_commit_fails_never_runs(session: Session) -> None:
    seen = []

    @actor
    def note(value: int) -> None:
        seen.append(value)

    with pytest.raises(Exception, match="violates foreign key"), session.begin(), enlist(session):
        session.execute(text("INSERT INTO note VALUES (1, 99)"))
        note.send(1)
    with session.begin(), enlist(session):
        note.send(2)

    assert seen == [2]


@pytest.mark.usefixtures("broker", "rows")
def test_an_error_comes_out_of_the_commit_and_the_session_can_be_used(session: Session) -> None:
    @actor(max_retries=0)
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), session.begin(), enlist(session):
        session.execute(text("INSERT INTO note VALUES (1)"))
        fail.send()

    assert session.execute(text("SELECT count(*) FROM note")).scalar_one() == 1


@pytest.mark.usefixtures("broker", "rows")
@pytest.mark.parametrize("at_exit", [True, False])
def test_what_is_sent_on_a_connection_that_does_not_tell_of_its_commit_runs_at_once(
    empty_database_url: str, at_exit: bool
) -> None:
    seen = []

    @actor
    def note(value: int) -> None:
        seen.append(value)

    connection = psycopg2.connect(empty_database_url)
    with enlist(connection, at_exit=at_exit):
        note.send(1)
        assert seen == [1]
    connection.close()

    with pytest.raises(TypeError), enlist("no connection"):
        pass
