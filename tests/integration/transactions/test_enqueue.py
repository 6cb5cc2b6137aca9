"""Sends in the caller's transaction: race 12.

Three ways lead there (a psycopg2 connection, SQLAlchemy's Session or Connection, the SQL function), and the same holds
for each: the task is there exactly if the business rows are.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import dramatiq
import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import ISOLATION_LEVEL_SERIALIZABLE, TRANSACTION_STATUS_INTRANS
from psycopg2.extras import NamedTupleCursor, RealDictCursor
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import pipeline
from pipeline import PostgresBroker
from pipeline.db import embedded
from pipeline.db.dsn import Dsn
from pipeline.db.migrate import migrate
from tests.fixtures.broker import global_broker, working
from tests.fixtures.wait import eventually


class Business(Protocol):
    """A program's own transaction, whatever it is made with."""

    def book(self, what: str) -> None: ...
    def send(self, what: str) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def savepoint(self) -> Any: ...
    def close(self) -> None: ...


class ByPsycopg:
    def __init__(self, url: str, follow: dramatiq.Actor) -> None:
        self.connection = psycopg2.connect(url)
        self._follow = follow
        self._savepoints = 0

    def run(self, statement: str, *parameters: Any) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    def book(self, what: str) -> None:
        self.run("INSERT INTO booking VALUES (%s)", what)

    def send(self, what: str) -> None:
        with pipeline.enlist(self.connection):
            self._follow.send(what)

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self._savepoints += 1
        name = f"s{self._savepoints}"
        self.run(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            self.run(f"ROLLBACK TO SAVEPOINT {name}")
            raise
        self.run(f"RELEASE SAVEPOINT {name}")

    def close(self) -> None:
        self.connection.close()


class BySql(ByPsycopg):
    """As psql, a trigger or another language does it."""

    def send(self, what: str) -> None:
        self.run("SELECT pipeline.enqueue('follow', json_build_array(%s::text), queue => 'default')", what)


class BySession:
    def __init__(self, url: str, follow: dramatiq.Actor) -> None:
        self.session = Session(create_engine(Dsn.parse(url).sqlalchemy))
        self._follow = follow

    def book(self, what: str) -> None:
        self.session.execute(text("INSERT INTO booking VALUES (:what)"), {"what": what})

    def send(self, what: str) -> None:
        with pipeline.enlist(self.session):
            self._follow.send(what)

    def commit(self) -> None:
        self.session.commit()

    def rollback(self) -> None:
        self.session.rollback()

    def savepoint(self) -> Any:
        return self.session.begin_nested()

    def close(self) -> None:
        self.session.close()
        self.session.get_bind().dispose()


class ByConnection(BySession):
    def __init__(self, url: str, follow: dramatiq.Actor) -> None:
        self.session = create_engine(Dsn.parse(url).sqlalchemy).connect()
        self._follow = follow

    def close(self) -> None:
        self.session.close()
        self.session.engine.dispose()


WAYS = {"psycopg2": ByPsycopg, "session": BySession, "connection": ByConnection, "sql": BySql}


@pytest.fixture(params=WAYS)
def begin(request, database_url, follow) -> Iterator[Callable[[], Business]]:
    """Begin transactions of one of the four kinds."""
    begun: list[Business] = []

    def begin() -> Business:
        begun.append(WAYS[request.param](database_url, follow))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


@pytest.fixture
def business(begin) -> Business:
    return begin()


class Abandoned(Exception):
    """A program changes its mind."""


# --- the same for every way ---------------------------------------------------------------------------------------------


def test_committed_together(business, booked, tasks) -> None:
    business.book("a")
    business.send("a")
    business.commit()

    assert (booked(), tasks()) == (["a"], ["a"])


def test_rolled_back_together(business, booked, tasks) -> None:
    business.book("a")
    business.send("a")
    business.rollback()
    business.book("b")
    business.send("b")
    business.commit()

    assert (booked(), tasks()) == (["b"], ["b"])


def test_nothing_is_there_before_the_commit(business, tasks) -> None:
    business.book("a")
    business.send("a")

    assert tasks() == []
    business.rollback()


def test_a_connection_closed_without_a_commit_leaves_nothing(business, booked, tasks) -> None:
    business.book("a")
    business.send("a")
    business.close()

    assert (booked(), tasks()) == ([], [])


def test_a_send_without_any_statement_of_the_callers_is_committed_too(business, tasks) -> None:
    business.send("alone")
    business.commit()

    assert tasks() == ["alone"]


def test_a_send_without_any_statement_of_the_callers_is_rolled_back_too(business, tasks) -> None:
    business.send("alone")
    business.rollback()
    business.commit()

    assert tasks() == []


def test_a_savepoint_takes_its_own_sends_back_and_no_others(business, booked, tasks) -> None:
    business.send("before")
    with suppress(Abandoned), business.savepoint():
        business.book("inside")
        business.send("inside")
        raise Abandoned
    business.send("after")
    business.commit()

    assert (booked(), tasks()) == ([], ["after", "before"])


def test_a_released_savepoint_keeps_its_sends(business, booked, tasks) -> None:
    with business.savepoint():
        business.book("inside")
        business.send("inside")
    business.commit()

    assert (booked(), tasks()) == (["inside"], ["inside"])


def test_an_outer_savepoint_takes_back_what_an_inner_one_released(business, booked, tasks) -> None:
    business.send("before")
    with suppress(Abandoned), business.savepoint():
        business.send("outer")
        with business.savepoint():
            business.book("inner")
            business.send("inner")
        raise Abandoned
    business.commit()

    assert (booked(), tasks()) == ([], ["before"])


def test_an_inner_savepoint_taken_back_leaves_the_outer_one(business, booked, tasks) -> None:
    with business.savepoint():
        business.send("outer")
        with suppress(Abandoned), business.savepoint():
            business.send("inner")
            raise Abandoned
        business.book("outer")
    business.commit()

    assert (booked(), tasks()) == (["outer"], ["outer"])


def test_a_whole_rollback_takes_back_what_savepoints_released(business, tasks) -> None:
    with business.savepoint():
        business.send("inside")
    business.rollback()
    business.commit()

    assert tasks() == []


def test_a_transaction_that_an_error_ended_leaves_nothing(business, booked, tasks) -> None:
    business.send("a")
    business.book("a")
    with pytest.raises((psycopg2.Error, DBAPIError)):
        business.book("a")
    business.rollback()

    assert (booked(), tasks()) == ([], [])


def test_an_error_in_a_savepoint_takes_its_sends_back(business, booked, tasks) -> None:
    business.book("a")
    business.send("kept")
    with suppress(psycopg2.Error, DBAPIError), business.savepoint():
        business.send("lost")
        business.book("a")
    business.commit()

    assert (booked(), tasks()) == (["a"], ["kept"])


def test_two_transactions_at_once_do_not_mix(begin, booked, tasks) -> None:
    one, two = begin(), begin()
    one.book("one")
    two.book("two")
    one.send("one")
    two.send("two")
    one.rollback()
    two.commit()

    assert (booked(), tasks()) == (["two"], ["two"])


def test_one_connection_serves_one_transaction_after_the_other(business, tasks) -> None:
    for n in range(3):
        business.send(f"{n} kept")
        business.commit()
        business.send(f"{n} lost")
        business.rollback()

    assert tasks() == ["0 kept", "1 kept", "2 kept"]


def test_a_worker_never_sees_the_task_before_the_business_row(broker, follow, begin, database_url, rows) -> None:
    """Each task looks for its row the moment it starts."""
    missing: list[str] = []

    def look(what: str) -> None:
        if not rows_of(database_url, "SELECT 1 FROM booking WHERE what = %s", what):
            missing.append(what)

    follow.fn = look

    def produce(number: int) -> None:
        business = begin()
        for n in range(25):
            business.send(f"{number}-{n}")
            business.book(f"{number}-{n}")
            business.commit()

    with working(broker, threads=4):
        with ThreadPoolExecutor(3) as producers:
            list(producers.map(produce, range(3)))
        broker.join("default", timeout=20_000)

    assert missing == []
    assert rows("SELECT count(*) FROM pipeline.task_status WHERE state = 'succeeded'") == [(75,)]


def rows_of(url: str, question: str, *parameters: Any) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(question, parameters)
            return cursor.fetchall()
    finally:
        connection.close()


def test_a_caller_that_retries_its_serialization_failures_gets_each_task_once(begin, booked, tasks) -> None:
    """40001 comes at a statement or at the commit; the caller runs the whole transaction again."""
    tries: list[str] = []
    both_have_read = threading.Barrier(2)

    def book_once(what: str) -> None:
        business = begin()
        while True:
            tries.append(what)
            try:
                _run(business, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                _run(business, "SELECT count(*) FROM booking")
                if len(tries) <= 2:
                    both_have_read.wait(5)
                business.send(what)
                business.book(what)
                business.commit()
            except (errors.SerializationFailure, DBAPIError) as error:
                assert getattr(error, "orig", error).pgcode == "40001"
                business.rollback()
            else:
                return

    with ThreadPoolExecutor(2) as programs:
        list(programs.map(book_once, ["one", "two"]))

    assert len(tries) > 2
    assert (booked(), tasks()) == (["one", "two"], ["one", "two"])


def _run(business: Any, statement: str) -> None:
    if isinstance(business, ByPsycopg):
        business.run(statement)
    else:
        business.session.execute(text(statement))


def test_after_sends_that_failed_and_a_rollback_the_program_may_try_again(business, rows, booked, tasks) -> None:
    """SQLAlchemy writes them at the commit, and has let go of the transaction by then."""
    rows("CREATE SEQUENCE failures")
    rows(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('public.failures') = 1 THEN "
        "RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$"
    )
    rows("CREATE TRIGGER fail BEFORE INSERT ON pipeline.ready FOR EACH ROW EXECUTE FUNCTION fail()")
    business.book("a")
    with pytest.raises((psycopg2.Error, DBAPIError), match="injected"):
        business.send("a")
        business.commit()
    business.rollback()
    business.book("a")
    business.send("a")
    business.commit()

    assert (booked(), tasks()) == (["a"], ["a"])


def test_a_full_queue_of_sends_in_one_transaction_is_all_or_none(business, tasks, rows) -> None:
    for n in range(200):
        business.send(str(n))
    business.commit()

    assert rows("SELECT count(*), count(DISTINCT xmin::text) >= 1 FROM pipeline.task") == [(200, True)]


# --- what none of the ways does -----------------------------------------------------------------------------------------


class Recording(psycopg2.extensions.connection):
    """A connection that notes everything which goes over it by psycopg2's own means."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[str] = []

    def commit(self) -> None:
        self.asked.append("commit")
        super().commit()

    def rollback(self) -> None:
        self.asked.append("rollback")
        super().rollback()

    def set_session(self, *args: Any, **kwargs: Any) -> None:
        self.asked.append("set_session")
        super().set_session(*args, **kwargs)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("cursor")
        return super().cursor(*args, **kwargs)


@pytest.mark.parametrize("at_exit", [False, True])
def test_a_send_on_a_psycopg2_connection_neither_commits_nor_sets_nor_notifies(
    database_url, follow, connect, at_exit
) -> None:
    listener = connect(autocommit=True)
    with listener.cursor() as cursor:
        cursor.execute("LISTEN pipeline")
    connection = psycopg2.connect(database_url, connection_factory=Recording)
    with pipeline.enlist(connection, at_exit=at_exit):
        follow.send("a")
        follow.send("b")

    assert connection.info.transaction_status == TRANSACTION_STATUS_INTRANS
    assert connection.asked == ["cursor"] * (1 if at_exit else 2)
    assert settings_of(connection) == settings_of(connect())
    connection.commit()
    connection.close()
    listener.poll()
    assert listener.notifies == []


def settings_of(connection: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY 1")
        return cursor.fetchall()


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_a_send_that_joins_sqlalchemy_notifies_only_after_the_commit_and_on_another_connection(
    engine, follow, connect, kind, broker
) -> None:
    listener = connect(autocommit=True)
    with listener.cursor() as cursor:
        cursor.execute("LISTEN pipeline")
    with Session(engine) if kind == "session" else engine.connect() as joined:
        raw = joined.connection().connection if kind == "session" else joined.connection
        own_pid = raw.dbapi_connection.info.backend_pid
        with pipeline.enlist(joined):
            follow.send("a")
        listener.poll()
        assert listener.notifies == []
        joined.commit()

    eventually(lambda: listener.poll() or listener.notifies)
    assert own_pid not in {notify.pid for notify in listener.notifies}


@pytest.mark.parametrize("kind", ["session", "connection"])
@pytest.mark.parametrize("count", [1, 50])
def test_many_sends_that_join_sqlalchemy_cost_one_round_trip(database_url, engine, follow, kind, count) -> None:
    """Counted at the driver, below SQLAlchemy's own events."""
    asked: list[str] = []

    class Counting(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            asked.append(str(query))
            super().execute(query, vars)

    class CountingConnection(psycopg2.extensions.connection):
        def cursor(self, *args: Any, cursor_factory: Any = None, **kwargs: Any) -> Any:
            return super().cursor(*args, cursor_factory=Counting, **kwargs)

    counted = create_engine(
        engine.url, creator=lambda: psycopg2.connect(database_url, connection_factory=CountingConnection)
    )
    with Session(counted) if kind == "session" else counted.connect() as joined:
        joined.execute(text("SELECT 1"))
        asked.clear()
        with pipeline.enlist(joined):
            for n in range(count):
                follow.send(str(n))
                if n % 10 == 0:
                    with joined.begin_nested():
                        follow.send(f"{n} inside")
        savepoints = [each for each in asked if "SAVEPOINT" in each]
        joined.commit()
    counted.dispose()

    assert len(asked) - len(savepoints) == 1


def test_the_first_use_of_a_queue_inside_a_transaction_blocks_no_other_sender(broker, follow, engine, rows) -> None:
    """**R** An uncommitted lane row would make every other sender to it wait for this transaction."""

    @dramatiq.actor(queue_name="brand-new", priority=7)
    def fresh() -> None: ...

    with Session(engine) as slow, pipeline.enlist(slow):
        slow.execute(text("INSERT INTO booking VALUES ('a')"))
        fresh.send()
        slow.flush()
        with ThreadPoolExecutor(1) as other:
            strangers = PostgresBroker(settings=broker.settings)
            strangers.declare_queue("brand-new")
            other.submit(strangers.enqueue, fresh.message_with_options(priority=7)).result(timeout=5)
            strangers.close()
        slow.rollback()

    assert rows("SELECT count(*) FROM pipeline.task_status") == [(1,)]
    assert rows("SELECT count(*) FROM pipeline.lane WHERE queue = 'brand-new'") == [(1,)]


@pytest.mark.parametrize("kind", ["psycopg2", "session", "connection"])
def test_an_enqueue_leaves_no_lock_on_queues_and_lanes(broker, follow, engine, database_url, rows, kind) -> None:
    """**R** Nothing but reading happens there in the caller's transaction."""

    @dramatiq.actor(queue_name="brand-new")
    def fresh() -> None: ...

    target: Any = {
        "psycopg2": lambda: psycopg2.connect(database_url),
        "session": lambda: Session(engine),
        "connection": engine.connect,
    }[kind]()
    with pipeline.enlist(target):
        fresh.send()
    held = "SELECT relation::regclass::text, mode FROM pg_locks WHERE relation IN ('pipeline.queue'::regclass, 'pipeline.lane'::regclass) AND mode <> 'AccessShareLock'"
    assert rows(held) == []
    target.rollback()
    target.close()


# --- psycopg2 -----------------------------------------------------------------------------------------------------------


def test_a_send_on_an_autocommit_connection_is_there_at_once(connect, follow, tasks) -> None:
    connection = connect(autocommit=True)
    with pipeline.enlist(connection):
        follow.send("a")
        assert tasks() == ["a"]


def test_with_connection_commits_and_rolls_back_as_ever(connect, follow, tasks) -> None:
    connection = connect()
    with connection, pipeline.enlist(connection):
        follow.send("kept")
    with suppress(Abandoned), connection, pipeline.enlist(connection):
        follow.send("lost")
        raise Abandoned

    assert tasks() == ["kept"]


@pytest.mark.parametrize("cursors", [RealDictCursor, NamedTupleCursor])
def test_a_connection_with_another_kind_of_cursor_takes_sends(database_url, follow, tasks, cursors) -> None:
    connection = psycopg2.connect(database_url, cursor_factory=cursors)
    with pipeline.enlist(connection):
        follow.send("one")
        pipeline.send_many([follow.message("two"), follow.message("three")])
    connection.commit()
    connection.close()

    assert tasks() == ["one", "three", "two"]


def test_a_serializable_connection_takes_sends(connect, follow, tasks) -> None:
    connection = connect()
    connection.set_isolation_level(ISOLATION_LEVEL_SERIALIZABLE)
    with pipeline.enlist(connection):
        follow.send("a")
    connection.commit()

    assert tasks() == ["a"]


def test_at_exit_writes_when_the_block_ends(connect, follow, tasks) -> None:
    connection = connect()
    with pipeline.enlist(connection, at_exit=True):
        for n in range(100):
            follow.send(str(n))
        assert connection.info.transaction_status != TRANSACTION_STATUS_INTRANS
    connection.commit()

    assert len(tasks()) == 100


def test_at_exit_writes_nothing_when_the_block_fails(connect, follow, tasks) -> None:
    connection = connect()
    with suppress(Abandoned), pipeline.enlist(connection, at_exit=True):
        follow.send("lost")
        raise Abandoned
    connection.commit()

    assert tasks() == []


def test_at_exit_rolls_back_with_the_transaction(connect, follow, tasks) -> None:
    connection = connect()
    with pipeline.enlist(connection, at_exit=True):
        follow.send("lost")
    connection.rollback()

    assert tasks() == []


def test_an_error_of_a_joined_send_is_the_callers_and_is_not_repeated(connect, follow, rows) -> None:
    rows("CREATE SEQUENCE failures")
    rows(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM nextval('public.failures'); RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END $$"
    )
    rows("CREATE TRIGGER fail BEFORE INSERT ON pipeline.ready FOR EACH ROW EXECUTE FUNCTION fail()")
    connection = connect()
    with pytest.raises(errors.SerializationFailure, match="injected"), pipeline.enlist(connection):
        follow.send("a")

    assert rows("SELECT last_value FROM failures") == [(1,)]
    connection.rollback()


# --- SQLAlchemy ---------------------------------------------------------------------------------------------------------


def test_a_scoped_session_is_joined_where_it_stands(engine, follow, tasks, booked) -> None:
    sessions = scoped_session(sessionmaker(engine))
    with pipeline.enlist(sessions):
        sessions.execute(text("INSERT INTO booking VALUES ('a')"))
        follow.send("a")
        sessions.commit()
    sessions.remove()

    assert (booked(), tasks()) == (["a"], ["a"])


def test_a_scoped_session_that_is_removed_takes_its_sends_along(engine, follow, tasks) -> None:
    sessions = scoped_session(sessionmaker(engine))
    with pipeline.enlist(sessions):
        follow.send("lost")
    sessions.remove()
    sessions.commit()
    sessions.remove()

    assert tasks() == []


def test_two_threads_on_one_scoped_session_do_not_mix(engine, follow, tasks) -> None:
    sessions = scoped_session(sessionmaker(engine))
    both_have_sent = threading.Barrier(2)

    def run(name: str) -> None:
        with pipeline.enlist(sessions):
            follow.send(name)
        both_have_sent.wait(5)
        sessions.commit() if name == "kept" else sessions.rollback()
        sessions.remove()

    with ThreadPoolExecutor(2) as programs:
        list(programs.map(run, ["kept", "lost"]))

    assert tasks() == ["kept"]


def test_sessions_inside_each_other_take_their_own_sends(engine, follow, tasks) -> None:
    with Session(engine) as outer, Session(engine) as inner, pipeline.enlist(outer):
        follow.send("outer")
        with pipeline.enlist(inner):
            follow.send("inner")
        follow.send("outer again")
        inner.rollback()
        outer.commit()

    assert tasks() == ["outer", "outer again"]


def test_session_begin_as_a_block_commits_the_sends(engine, follow, tasks) -> None:
    with Session(engine) as session, session.begin(), pipeline.enlist(session):
        follow.send("a")

    assert tasks() == ["a"]


def test_a_savepoint_left_open_at_the_commit_loses_nothing(engine, follow, tasks) -> None:
    with Session(engine) as session, pipeline.enlist(session):
        follow.send("before")
        session.begin_nested()
        follow.send("inside")
        session.commit()

    assert tasks() == ["before", "inside"]


def test_a_savepoint_left_open_at_the_end_of_a_block_loses_nothing(engine, follow, tasks) -> None:
    """The block commits the whole transaction while the innermost one is the savepoint."""
    with Session(engine) as session, session.begin(), pipeline.enlist(session):
        follow.send("before")
        session.begin_nested()
        follow.send("inside")

    assert tasks() == ["before", "inside"]


def test_a_failed_flush_takes_the_sends_back(engine, follow, tasks, booked) -> None:
    from sqlalchemy.orm import declarative_base, mapped_column
    from sqlalchemy.types import Text

    class Booking(declarative_base()):
        __tablename__ = "booking"
        what = mapped_column(Text, primary_key=True)

    with Session(engine) as session, pipeline.enlist(session):
        session.add_all([Booking(what="a")])
        session.flush()
        follow.send("lost")
        session.execute(text("INSERT INTO booking VALUES ('b')"))
        session.add(Booking(what="b"))
        with pytest.raises(DBAPIError):
            session.commit()
        session.rollback()
        follow.send("kept")
        session.commit()

    assert (booked(), tasks()) == ([], ["kept"])


def test_a_session_with_only_sends_commits_them(engine, follow, tasks) -> None:
    with Session(engine) as session:
        with pipeline.enlist(session):
            follow.send("a")
        session.commit()

    assert tasks() == ["a"]


def test_a_session_on_a_connection_joins_the_connections_transaction(engine, follow, tasks, booked) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session, pipeline.enlist(session):
            session.execute(text("INSERT INTO booking VALUES ('a')"))
            follow.send("a")
            session.commit()
        outer.rollback()

    assert (booked(), tasks()) == ([], [])


def test_send_many_and_group_join_too(engine, follow, tasks) -> None:
    with Session(engine) as session, pipeline.enlist(session):
        pipeline.send_many([follow.message("one"), follow.message("two")])
        dramatiq.group([follow.message("three"), follow.message("four")]).run()
        session.commit()
        pipeline.send_many([follow.message("lost")])
        session.rollback()

    assert tasks() == ["four", "one", "three", "two"]


def test_the_same_message_twice_in_a_session_is_one_task(engine, broker, follow, tasks) -> None:
    message = follow.message("first")
    with Session(engine) as session, pipeline.enlist(session):
        broker.enqueue(message)
        broker.enqueue(message.copy(args=("second",)))
        session.commit()

    assert tasks() == ["second"]


def test_the_id_is_known_before_the_commit(engine, follow, worker) -> None:
    with Session(engine) as session:
        with pipeline.enlist(session):
            message = follow.send("a")
        session.commit()

    assert message.get_result(block=True) == "a"


def test_something_else_than_a_transaction_is_refused() -> None:
    with pytest.raises(TypeError, match="enlist\\(\\) takes.*not dict"), pipeline.enlist({}):
        pass


def test_after_the_block_sends_go_their_own_way_again(connect, follow, tasks) -> None:
    connection = connect()
    with pipeline.enlist(connection):
        follow.send("joined")
    follow.send("alone")

    assert tasks() == ["alone"]
    connection.rollback()


def test_a_message_that_cannot_be_stored_leaves_the_callers_transaction_usable(begin, follow, booked, tasks) -> None:
    business = begin()
    if isinstance(business, BySql):
        return  # JSON is checked by whoever writes it
    business.book("a")
    with pytest.raises(ValueError, match="JSON"):
        business.send(object())  # type: ignore[arg-type]
    business.send("a")
    business.commit()

    assert (booked(), tasks()) == (["a"], ["a"])


# --- two-phase commit ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_phase_url() -> Iterator[str]:
    """A server of its own, on which PREPARE TRANSACTION is allowed."""
    with tempfile.TemporaryDirectory(prefix="pipeline-two-phase-") as directory:
        home = Path(directory) / "postgres"
        with embedded.start(home) as server:
            connection = psycopg2.connect(server.url)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("ALTER SYSTEM SET max_prepared_transactions = 10")
            connection.close()
        with embedded.start(home) as server:
            migrate(server.url)
            yield server.url


@pytest.fixture
def two_phase(two_phase_url) -> Iterator[tuple[str, dramatiq.Actor]]:
    with global_broker(PostgresBroker(url=two_phase_url)) as broker:

        @dramatiq.actor
        def follow(what: str) -> None: ...

        broker.sender.ensure_lanes([("default", 0)])
        for statement in (
            "CREATE TABLE IF NOT EXISTS booking (what text)",
            "TRUNCATE booking, pipeline.task, pipeline.ready",
        ):
            _execute(two_phase_url, statement)
        yield two_phase_url, follow


def _execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_prepared_psycopg2_transaction_holds_its_tasks_until_it_is_decided(two_phase, ending) -> None:
    url, follow = two_phase
    connection = psycopg2.connect(url)
    xid = connection.xid(1, f"psycopg2-{ending}", "branch")
    connection.tpc_begin(xid)
    with pipeline.enlist(connection):
        follow.send("a")
    connection.tpc_prepare()
    assert _execute(url, "SELECT 1 FROM pipeline.task") == []
    (connection.tpc_commit if ending == "commit" else connection.tpc_rollback)()
    connection.close()

    assert len(_execute(url, "SELECT 1 FROM pipeline.task")) == (ending == "commit")


@pytest.mark.parametrize("kind", ["session", "connection"])
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_prepared_sqlalchemy_transaction_holds_its_tasks_until_it_is_decided(two_phase, kind, ending) -> None:
    url, follow = two_phase
    engine = create_engine(Dsn.parse(url).sqlalchemy)
    with Session(engine, twophase=True) if kind == "session" else engine.connect() as joined:
        transaction = joined if kind == "session" else joined.begin_twophase()
        with pipeline.enlist(joined):
            joined.execute(text("INSERT INTO booking VALUES ('a')"))
            follow.send("a")
        transaction.prepare()
        assert _execute(url, "SELECT 1 FROM pipeline.task") == []
        assert len(_execute(url, "SELECT 1 FROM pg_prepared_xacts")) == 1
        getattr(transaction, ending)()
    engine.dispose()

    assert len(_execute(url, "SELECT 1 FROM pipeline.task")) == (ending == "commit")
    assert len(_execute(url, "SELECT 1 FROM booking")) == (ending == "commit")


# --- SQL ----------------------------------------------------------------------------------------------------------------


def test_sql_enqueues_by_the_actors_name_once_a_worker_has_announced_it(broker, follow, rows) -> None:
    with working(broker):
        eventually(lambda: rows("SELECT 1 FROM pipeline.actor WHERE name = 'follow'"))
        [(message_id,)] = rows("SELECT pipeline.enqueue('follow', '[\"x\"]')")
        broker.join("default", timeout=5_000)

    assert rows("SELECT task_id, state, result::text FROM pipeline.task_status") == [(message_id, "succeeded", '"x"')]


def test_a_trigger_enqueues_in_the_transaction_that_fired_it(follow, rows, connect, booked, tasks) -> None:
    rows(
        """
        CREATE FUNCTION enqueue_booking() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pipeline.enqueue('follow', json_build_array(NEW.what), queue => 'default');
            RETURN NEW;
        END $$
        """
    )
    rows("CREATE TRIGGER enqueue_booking AFTER INSERT ON booking FOR EACH ROW EXECUTE FUNCTION enqueue_booking()")
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO booking VALUES ('lost')")
        connection.rollback()
        cursor.execute("INSERT INTO booking SELECT 'many ' || n FROM generate_series(1, 3) n")
        connection.commit()

    assert tasks() == booked() == ["many 1", "many 2", "many 3"]


def test_sql_gives_delay_priority_keywords_and_options(broker, follow, rows) -> None:
    broker.sender.ensure_lanes([("default", 5)])
    rows(
        "SELECT pipeline.enqueue('follow', '[1]', '{\"a\": 2}', queue => 'default', priority => 5, "
        "delay => '1 hour', options => '{\"max_retries\": 3}')"
    )

    assert rows("SELECT state, args::text, kwargs::text, priority FROM pipeline.task_status") == [
        ("scheduled", "[1]", '{"a": 2}', 5)
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("'nobody'", "unknown actor"),
        ("'follow', queue => 'nowhere'", "unknown queue"),
        ("'follow', queue => 'default', priority => 99", "unknown queue"),
        ("'follow', '5', queue => 'default'", "JSON array"),
        ("'follow', '[]', '[]', queue => 'default'", "JSON objects"),
        ("'follow', '[]', options => '[]', queue => 'default'", "JSON objects"),
    ],
)
def test_a_wrong_call_from_sql_is_an_error(follow, rows, call, message) -> None:
    with pytest.raises(psycopg2.Error, match=message):
        rows(f"SELECT pipeline.enqueue({call})")
    assert rows("SELECT 1 FROM pipeline.task") == []


def test_sql_never_makes_a_queue(follow, rows) -> None:
    """**R** Not in the caller's transaction."""
    with pytest.raises(psycopg2.Error):
        rows("SELECT pipeline.enqueue('follow', queue => 'nowhere')")

    assert rows("SELECT name FROM pipeline.queue") == [("default",)]
