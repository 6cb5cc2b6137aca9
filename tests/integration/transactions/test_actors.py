"""Transactional actors and steps: writes, sends, result and outcome are there together or not at all."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg2
import pytest
from dramatiq import group
from dramatiq.results import ResultFailure
from sqlalchemy import text

import pipeline
from pipeline import LeaseLost, TransactionOwned, current_task
from pipeline.errors import NotTransactional
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

INSERT = "INSERT INTO booking VALUES ('%s')"


def by_session(what: str) -> None:
    current_task().session.execute(text(INSERT % what))


def by_cursor(what: str) -> None:
    with current_task().cursor() as cursor:
        cursor.execute(INSERT % what)


@pytest.fixture(params=[by_session, by_cursor])
def book(request) -> Callable[[str], None]:
    """Write to the business table in the task's transaction."""
    return request.param


@pytest.fixture
def history(rows) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: rows(
        "SELECT run, attempt, outcome, error_type FROM pipeline.attempt_history WHERE actor <> 'follow' ORDER BY run"
    )


def conclude_elsewhere(rows, proxy: Any, outcome: str = "l") -> None:
    """Conclude a run as a rescuer does."""
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, %s, 0, %s, clock_timestamp())",
        proxy.id,
        proxy.run,
        outcome,
    )


# --- together ---------------------------------------------------------------------------------------------------------


def test_writes_sends_result_and_outcome_are_one_transaction(broker, follow, book, rows, booked) -> None:
    @dramatiq.actor(transactional=True)
    def act() -> str:
        book("a")
        follow.send("a")
        return "done"

    broker.probe = lambda name, proxy: seen.append((booked(), rows("SELECT count(*) FROM pipeline.task"), name))
    seen: list[Any] = []
    with working(broker, threads=1):
        assert act.send().get_result(block=True) == "done"

    assert seen[0] == ([], [(1,)], "between_fence_and_commit")
    xmins = rows(
        "SELECT (SELECT xmin::text FROM booking), (SELECT xmin::text FROM pipeline.task WHERE actor = 'follow'), "
        "(SELECT xmin::text FROM pipeline.attempt WHERE result IS NOT NULL ORDER BY finished_at LIMIT 1)"
    )[0]
    assert len(set(xmins)) == 1


def test_session_and_cursor_are_the_same_transaction(broker, booked, worker) -> None:
    @dramatiq.actor(transactional=True)
    def act() -> int:
        by_session("a")
        with current_task().cursor() as cursor:
            cursor.execute("SELECT count(*) FROM booking")
            return cursor.fetchone()[0]

    assert act.send().get_result(block=True) == 1
    assert booked() == ["a"]


@pytest.mark.parametrize("write", [lambda: None, lambda: by_cursor("a")], ids=["writes nothing", "writes by a cursor"])
def test_an_actor_that_takes_the_session_and_does_not_use_it_is_concluded(broker, booked, rows, worker, write) -> None:
    """Such a session never began, so its commit() would commit nothing: not the writes, and not the fence row either."""

    @dramatiq.actor(transactional=True)
    def act() -> str:
        assert current_task().session is not None
        write()
        return "done"

    assert act.send().get_result(block=True, timeout=3_000) == "done"
    assert rows("SELECT state FROM pipeline.task_status") == [("succeeded",)]
    assert booked() == (["a"] if write.__code__.co_names else [])


def test_an_orm_object_that_was_only_added_is_written(broker, booked, worker) -> None:
    from sqlalchemy.orm import declarative_base, mapped_column
    from sqlalchemy.types import Text

    class Booking(declarative_base()):
        __tablename__ = "booking"
        what = mapped_column(Text, primary_key=True)

    @dramatiq.actor(transactional=True)
    def act() -> None:
        current_task().session.add(Booking(what="a"))

    act.send().get_result(block=True)
    assert booked() == ["a"]


def test_an_error_takes_everything_back_and_the_next_run_does_it_all(
    broker, follow, book, booked, tasks, history
) -> None:
    tries = itertools.count(1)

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> str:
        n = next(tries)
        book(f"try {n}")
        follow.send(f"try {n}")
        if n < 3:
            raise ValueError
        return "done"

    with working(broker):
        assert act.send().get_result(block=True) == "done"

    assert (booked(), tasks()) == (["try 3"], ["try 3"])
    assert [row[2] for row in history()] == ["retry", "retry", "succeeded"]


def test_an_actor_that_only_sends_takes_its_sends_back_too(broker, follow, tasks) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        follow.send("lost")
        raise ValueError

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert tasks() == []


def test_send_many_and_groups_belong_to_the_transaction(broker, follow, tasks) -> None:
    tries = itertools.count(1)

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> None:
        pipeline.send_many([follow.message("a"), follow.message("b")])
        group([follow.message("c"), follow.message("d")]).run()
        if next(tries) == 1:
            raise ValueError

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert tasks() == ["a", "b", "c", "d"]


def test_another_connection_is_outside(broker, connect, booked) -> None:
    """As the documentation says."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        connection = connect(autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute(INSERT % "outside")
        by_cursor("inside")
        raise ValueError

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert booked() == ["outside"]


def test_a_transactional_actor_that_touches_nothing_is_concluded_too(broker, worker) -> None:
    @dramatiq.actor(transactional=True)
    def act() -> int:
        return 7

    assert act.send().get_result(block=True) == 7


def test_a_database_error_that_the_actor_swallows_is_its_failure(broker, booked, history) -> None:
    """PostgreSQL has ended the transaction; nobody may take it for a success."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        by_cursor("a")
        try:
            by_cursor("a")
        except psycopg2.Error:
            return

    with working(broker), pytest.raises(ResultFailure):
        act.send().get_result(block=True)

    assert booked() == []
    assert history() == [(1, 1, "failed", "InFailedSqlTransaction")]


def test_many_at_once_do_not_mix(broker, follow, book, booked, tasks) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act(n: int) -> None:
        book(f"{n:03}")
        follow.send(f"{n:03}")
        if n % 2:
            raise ValueError

    broker.send_many([act.message(n) for n in range(100)])
    with working(broker, threads=8):
        broker.join("default", timeout=30_000)

    assert booked() == tasks() == [f"{n:03}" for n in range(0, 100, 2)]


def test_an_async_transactional_actor_writes_in_its_transaction(broker, follow, booked, tasks) -> None:
    tries = itertools.count(1)

    @dramatiq.actor(transactional=True, min_backoff=1)
    async def act() -> None:
        n = next(tries)
        by_cursor(f"try {n}")
        follow.send(f"try {n}")
        if n == 1:
            raise ValueError

    with working(broker):
        act.send()
        broker.join("default", timeout=10_000)

    assert (booked(), tasks()) == (["try 2"], ["try 2"])


def test_an_actor_may_ask_to_run_again_and_commit_what_it_has(broker, booked, history) -> None:
    @dramatiq.actor(transactional=True)
    def act() -> str:
        task = current_task()
        by_cursor(f"run {task.run}")
        if task.run == 1:
            broker.enqueue(task.message._message)
        return "done"

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert booked() == ["run 1", "run 2"]
    assert [row[2] for row in history()] == ["retry", "succeeded"]


# --- the fence --------------------------------------------------------------------------------------------------------


def test_a_run_that_was_concluded_elsewhere_writes_nothing(broker, follow, book, rows, booked, tasks, history) -> None:
    @dramatiq.actor(transactional=True)
    def act() -> str:
        book("a")
        follow.send("a")
        conclude_elsewhere(rows, current_task().message, "f")
        return "done"

    with working(broker, threads=1):
        act.send()
        broker.join("default", timeout=5_000)

    assert (booked(), tasks()) == ([], [])
    assert history() == [(1, 0, "failed", None)]


def test_a_rescue_that_commits_while_the_run_waits_at_the_fence_wins(broker, book, connect, rows, booked) -> None:
    """The fence row is inserted by both; the one who comes second waits for the first and then finds it."""
    session = connect()
    blocked = threading.Event()

    @dramatiq.actor(transactional=True)
    def act() -> None:
        book("a")
        proxy = current_task().message
        with session.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, %s, 0, 'f', now())",
                (proxy.id, proxy.run),
            )
        blocked.set()

    with working(broker, threads=1):
        act.send()
        assert blocked.wait(5)
        eventually(
            lambda: rows(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        session.commit()
        broker.join("default", timeout=5_000)

    assert booked() == []


def test_a_rescue_that_gives_up_while_the_run_waits_at_the_fence_loses(
    broker, book, connect, rows, booked, history
) -> None:
    session = connect()
    blocked = threading.Event()

    @dramatiq.actor(transactional=True)
    def act() -> None:
        book("a")
        proxy = current_task().message
        with session.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, %s, 0, 'f', now())",
                (proxy.id, proxy.run),
            )
        blocked.set()

    with working(broker, threads=1):
        act.send()
        assert blocked.wait(5)
        eventually(
            lambda: rows(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        session.rollback()
        broker.join("default", timeout=5_000)

    assert booked() == ["a"]
    assert history() == [(1, 1, "succeeded", None)]


# --- COMMIT fails -----------------------------------------------------------------------------------------------------


@pytest.fixture
def paid(rows) -> None:
    """A constraint that is looked at only at COMMIT."""
    rows("CREATE TABLE paid (what text REFERENCES booking DEFERRABLE INITIALLY DEFERRED)")


def test_a_deferred_constraint_is_the_tasks_failure_and_is_retried(
    broker, book, booked, paid, follow, tasks, history
) -> None:
    tries = itertools.count(1)

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> str:
        follow.send("sent")
        with current_task().cursor() as cursor:
            cursor.execute("INSERT INTO paid VALUES ('a')")
        if next(tries) == 2:
            book("a")
        return "done"

    with working(broker):
        assert act.send().get_result(block=True) == "done"

    assert history() == [(1, 1, "retry", "ForeignKeyViolation"), (2, 2, "succeeded", None)]
    assert (booked(), tasks()) == (["a"], ["sent"])


def test_a_deferred_constraint_without_retries_is_a_failure_that_can_be_read(broker, booked, paid, history) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        with current_task().cursor() as cursor:
            cursor.execute("INSERT INTO paid VALUES ('a')")
        return "done"

    with working(broker), pytest.raises(ResultFailure, match="ForeignKeyViolation"):
        act.send().get_result(block=True)

    assert history() == [(1, 1, "failed", "ForeignKeyViolation")]


@pytest.mark.parametrize("when", ["in the actor", "at its end"])
def test_a_constraint_that_the_flush_meets_is_the_tasks_failure(broker, booked, rows, history, when) -> None:
    from sqlalchemy.orm import declarative_base, mapped_column
    from sqlalchemy.types import Text

    rows("INSERT INTO booking VALUES ('a')")

    class Booking(declarative_base()):
        __tablename__ = "booking"
        what = mapped_column(Text, primary_key=True)

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        current_task().session.add(Booking(what="a"))
        if when == "in the actor":
            current_task().session.flush()
        return "done"

    with working(broker), pytest.raises(ResultFailure, match="IntegrityError"):
        act.send().get_result(block=True)

    assert history() == [(1, 1, "failed", "IntegrityError")]


def test_a_flush_that_fails_inside_a_savepoint_may_be_caught(broker, follow, booked, tasks, rows, worker) -> None:
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.orm import declarative_base, mapped_column
    from sqlalchemy.types import Text

    rows("INSERT INTO booking VALUES ('a')")

    class Booking(declarative_base()):
        __tablename__ = "booking"
        what = mapped_column(Text, primary_key=True)

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        session = current_task().session
        try:
            with session.begin_nested():
                follow.send("lost")
                session.add(Booking(what="a"))
        except IntegrityError:
            session.add(Booking(what="b"))
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert (booked(), tasks()) == (["a", "b"], [])


def test_a_serialization_failure_at_commit_is_retried_until_each_did_it_once(broker, booked, history, rows) -> None:
    both_have_read = threading.Barrier(2)

    @dramatiq.actor(transactional=True, min_backoff=1, max_backoff=20)
    def act(what: str) -> None:
        with current_task().cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            cursor.execute("SELECT count(*) FROM booking")
            if current_task().attempt == 1:
                both_have_read.wait(5)
            cursor.execute(INSERT % what)
            if current_task().attempt == 1:
                both_have_read.wait(5)

    with working(broker, threads=2):
        act.send("one")
        act.send("two")
        broker.join("default", timeout=10_000)

    assert booked() == ["one", "two"]
    assert sorted(row[2] for row in history()) == ["retry", "succeeded", "succeeded"]
    assert {row[3] for row in history()} == {None, "SerializationFailure"}


# --- nobody knows whether COMMIT happened -----------------------------------------------------------------------------


@pytest.mark.parametrize("fails_for_good", [False, True])
def test_a_session_killed_before_commit_did_nothing_and_retries_decide(
    broker, follow, book, rows, booked, tasks, history, fails_for_good
) -> None:
    @dramatiq.actor(transactional=True, min_backoff=1, max_retries=0 if fails_for_good else 3)
    def act() -> str:
        book("a")
        follow.send("a")
        return "done"

    killed: list[int] = []

    def kill(name: str, proxy: Any) -> None:
        if name == "between_fence_and_commit" and not killed and proxy.actor_name == "act":
            pid = proxy.task.transaction._connection.info.backend_pid
            killed.append(pid)
            rows("SELECT pg_terminate_backend(%s)", pid)
            eventually(lambda: not rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))

    broker.probe = kill
    with working(broker, threads=1):
        act.send()
        broker.join("default", timeout=10_000)

    if fails_for_good:
        assert [row[:3] for row in history()] == [(1, 1, "failed")]
        assert (booked(), tasks()) == ([], [])
    else:
        assert [row[:3] for row in history()] == [(1, 1, "retry"), (2, 2, "succeeded")]
        assert (booked(), tasks()) == (["a"], ["a"])


@pytest.mark.parametrize("book_by", [by_session, by_cursor])
def test_a_commit_whose_answer_was_lost_is_settled_by_the_fence_row(
    proxy, proxied_broker, rows, booked, book_by
) -> None:
    """The server committed; the client saw a broken connection. The actor does not run again."""
    ran: list[int] = []
    booked()

    @dramatiq.actor
    def follow(what: str) -> None: ...

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> str:
        ran.append(current_task().run)
        book_by("a")
        follow.send("a")
        return "done"

    def lose(name: str, run: Any) -> None:
        if name == "between_fence_and_commit":
            proxy.lose_answer_to(b"COMMIT")

    proxied_broker.probe = lose
    with working(proxied_broker, threads=1):
        assert act.send().get_result(block=True, timeout=20_000) == "done"
        proxied_broker.join("default", timeout=10_000)

    assert proxy.has_lost.is_set()
    assert ran == [1]
    assert booked() == ["a"]
    assert rows("SELECT actor, outcome FROM pipeline.attempt_history ORDER BY actor") == [
        ("act", "succeeded"),
        ("follow", "succeeded"),
    ]


def test_a_lost_commit_is_settled_only_when_the_database_answers_again(proxy, proxied_broker, rows, booked) -> None:
    ran: list[int] = []

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> str:
        ran.append(current_task().run)
        by_cursor("a")
        return "done"

    def lose(name: str, run: Any) -> None:
        if name == "between_fence_and_commit":
            proxy.lose_answer_to(b"COMMIT")
            threading.Thread(target=cut_afterwards, daemon=True).start()

    def cut_afterwards() -> None:
        proxy.has_lost.wait(10)
        proxy.cut()
        is_cut.set()

    is_cut = threading.Event()
    proxied_broker.probe = lose
    with working(proxied_broker, threads=1):
        message = act.send()
        assert is_cut.wait(10)
        eventually(lambda: not proxied_broker.hub.is_connected)
        proxy.restore()
        assert message.get_result(block=True, timeout=20_000) == "done"

    assert (ran, booked()) == ([1], ["a"])


# --- the transaction belongs to the engine ----------------------------------------------------------------------------


OWNED = {
    "connection.commit": lambda: current_task().cursor().connection.commit(),
    "connection.rollback": lambda: current_task().cursor().connection.rollback(),
    "with connection": lambda: _with_connection(),
    "session.commit": lambda: current_task().session.commit(),
    "session.rollback": lambda: current_task().session.rollback(),
    "session.connection().commit": lambda: current_task().session.connection().commit(),
    "COMMIT": lambda: current_task().cursor().execute("COMMIT"),
    "commit ;": lambda: current_task().cursor().execute("  commit ;"),
    "END": lambda: current_task().cursor().execute("END"),
    "ROLLBACK": lambda: current_task().cursor().execute("ROLLBACK"),
    "ABORT": lambda: current_task().cursor().execute("abort"),
    "BEGIN": lambda: current_task().cursor().execute("BEGIN"),
    "PREPARE TRANSACTION": lambda: current_task().cursor().execute("PREPARE TRANSACTION 'x'"),
    "bytes": lambda: current_task().cursor().execute(b"COMMIT"),
    "a comment before it": lambda: current_task().cursor().execute("/* x */ COMMIT"),
    "a nested comment before it": lambda: current_task().cursor().execute("/* x /* y */ z */ COMMIT"),
    "a line comment before it": lambda: current_task().cursor().execute("-- x\nROLLBACK"),
    "after another statement": lambda: current_task().cursor().execute("SELECT 1; COMMIT"),
    "executemany": lambda: current_task().cursor().executemany("COMMIT", [()]),
    "session text": lambda: current_task().session.execute(text("COMMIT")),
}


def _with_connection() -> None:
    with current_task().cursor().connection:
        pass


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_ending_a_session_that_has_begun_nothing_is_refused_too(broker, booked, worker, end) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        session = current_task().session
        by_cursor("a")
        with pytest.raises(TransactionOwned):
            getattr(session, end)()
        by_session("b")
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert booked() == ["a", "b"]


@pytest.mark.parametrize("end", OWNED.values(), ids=OWNED)
def test_ending_the_transaction_is_refused_and_nothing_of_it_stays(broker, booked, history, end) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        by_cursor("a")
        end()

    with working(broker, threads=1), pytest.raises(ResultFailure):
        act.send().get_result(block=True)

    assert booked() == []
    [(_, _, outcome, error)] = history()
    assert (outcome, error) == ("failed", "TransactionOwned")


@pytest.mark.parametrize(
    "end",
    [OWNED["COMMIT"], OWNED["connection.commit"], OWNED["connection.rollback"]],
    ids=["text", "commit", "rollback"],
)
def test_an_actor_that_swallows_the_refusal_goes_on_in_its_transaction(broker, booked, worker, end) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        by_cursor("a")
        with pytest.raises(TransactionOwned):
            end()
        by_cursor("b")
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert booked() == ["a", "b"]


@pytest.mark.parametrize(
    "harmless",
    [
        "SELECT 'COMMIT'",
        "SELECT 1 AS commit",
        "/* COMMIT */ SELECT 1",
        "SELECT $$; COMMIT$$",
        "SELECT '; COMMIT;'",
        "PREPARE commit AS SELECT 1",
        'SELECT 1 AS "; COMMIT"',
    ],
)
def test_a_statement_that_only_mentions_commit_runs(broker, booked, worker, harmless) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        current_task().cursor().execute(harmless)
        return "done"

    assert act.send().get_result(block=True) == "done"


def test_after_a_transactional_task_the_connection_can_be_used_for_the_next(broker, booked, book) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act(n: int) -> None:
        book(str(n))
        if n == 1:
            raise ValueError

    with working(broker, threads=1):
        for n in range(4):
            act.send(n)
        broker.join("default", timeout=5_000)

    assert booked() == ["0", "2", "3"]


# --- savepoints -------------------------------------------------------------------------------------------------------


def test_begin_nested_takes_its_writes_and_sends_back(broker, follow, booked, tasks, worker) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        session = current_task().session
        follow.send("before")
        with session.begin_nested():
            by_session("kept")
            follow.send("kept")
        nested = session.begin_nested()
        by_session("lost")
        follow.send("lost")
        nested.rollback()
        follow.send("after")
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert (booked(), tasks()) == (["kept"], ["after", "before", "kept"])


@pytest.mark.parametrize("depth", [1, 2])
def test_a_send_that_is_the_first_thing_in_a_savepoint_is_taken_back_with_it(
    broker, follow, tasks, worker, depth
) -> None:
    """SQLAlchemy sets a savepoint only when something is executed in it."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        session = current_task().session
        outer = session.begin_nested()
        if depth == 2:
            session.begin_nested()
        follow.send("lost")
        outer.rollback()
        follow.send("kept")
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert tasks() == ["kept"]


def test_an_outer_savepoint_takes_back_what_an_inner_one_released(broker, follow, booked, tasks, worker) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        session = current_task().session
        outer = session.begin_nested()
        with session.begin_nested():
            by_session("lost")
            follow.send("lost")
        outer.rollback()
        follow.send("kept")
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert (booked(), tasks()) == ([], ["kept"])


@pytest.mark.parametrize(
    ("statements", "kept"),
    [
        (["SAVEPOINT a", "+1", "ROLLBACK TO a"], []),
        (["SAVEPOINT a", "+1", "rollback to savepoint A;"], []),
        (["SAVEPOINT a", "+1", "ROLLBACK WORK TO SAVEPOINT a", "+2"], ["2"]),
        (["SAVEPOINT a", "+1", "ROLLBACK TRANSACTION TO a", "+2", "ROLLBACK TO a"], []),
        (["SAVEPOINT a", "+1", "RELEASE SAVEPOINT a"], ["1"]),
        (["SAVEPOINT a", "+1", "SAVEPOINT a", "+2", "ROLLBACK TO a"], ["1"]),
        (["SAVEPOINT a", "+1", "SAVEPOINT a", "+2", "RELEASE a", "+3", "ROLLBACK TO a"], []),
        (["SAVEPOINT a", "+1", "SAVEPOINT b", "+2", "ROLLBACK TO a", "+3"], ["3"]),
        (["/* x */ SAVEPOINT a", "+1", "-- y\nROLLBACK TO a"], []),
        (["SELECT 1; SAVEPOINT a", "+1", "SELECT 1; ROLLBACK TO a"], []),
        (['SAVEPOINT "a b"', "+1", 'ROLLBACK TO "a b"'], []),
        (['SAVEPOINT "a"', "+1", "ROLLBACK TO a"], []),
    ],
)
def test_savepoints_as_text_take_sends_back_as_postgresql_does_writes(
    broker, follow, booked, tasks, worker, statements, kept
) -> None:
    """The business rows are the oracle."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        with current_task().cursor() as cursor:
            for statement in statements:
                if statement.startswith("+"):
                    follow.send(statement[1:])
                    cursor.execute(INSERT % statement[1:])
                else:
                    cursor.execute(statement)
        return "done"

    assert act.send().get_result(block=True) == "done"
    assert tasks() == booked() == kept


# --- where there is no transaction ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask", [lambda: current_task().session, lambda: current_task().cursor()], ids=["session", "cursor"]
)
def test_an_actor_without_transactional_has_none(broker, worker, ask) -> None:
    @dramatiq.actor(max_retries=0)
    def act() -> None:
        with pytest.raises(NotTransactional, match="transactional=True"):
            ask()

    act.send().get_result(block=True)


def test_a_step_inside_a_transactional_actor_is_refused(broker, worker) -> None:
    """Its commit would be a commit of its own."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        with pytest.raises(NotTransactional), task.step():
            pass

    act.send().get_result(block=True)


def test_steps_do_not_nest(broker, worker) -> None:
    @dramatiq.actor(max_retries=0)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        with task.step() as step, pytest.raises(NotTransactional), task.step():
            pass
        step.cursor = 1

    act.send().get_result(block=True)


# --- what the hooks ask for -------------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_written_is_the_failure_and_takes_the_writes_back(
    broker, book, booked, history
) -> None:
    """**R**"""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> object:
        book("a")
        return object()

    with working(broker), pytest.raises(ResultFailure, match="MessageNotEncodable"):
        act.send().get_result(block=True)

    assert booked() == []
    assert history() == [(1, 1, "failed", "MessageNotEncodable")]


def test_a_next_step_that_cannot_be_enqueued_is_the_failure_and_takes_the_writes_back(
    broker, book, follow, booked, tasks, history
) -> None:
    """**R**"""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> int:
        book("a")
        return 1

    first = act.message()
    first.options["pipe_target"] = follow.message().copy(queue_name="nowhere").asdict()
    with working(broker), pytest.raises(ResultFailure, match="QueueNotFound"):
        broker.enqueue(first).get_result(block=True)

    assert (booked(), tasks()) == ([], [])
    assert history() == [(1, 1, "failed", "QueueNotFound")]


def test_next_step_and_callback_are_in_the_commit(broker, book, follow, rows) -> None:
    @dramatiq.actor
    def told(message: Any, result: Any) -> None: ...

    @dramatiq.actor(transactional=True, on_success="told")
    def act() -> str:
        book("a")
        return "piped"

    with working(broker):
        pipe = (act.message() | follow.message()).run()
        assert pipe.get_result(block=True) == "piped"
        broker.join("default", timeout=5_000)

    xmins = rows(
        "SELECT xmin::text FROM booking UNION ALL SELECT xmin::text FROM pipeline.task WHERE actor IN ('told', 'follow')"
    )
    assert len(xmins) == 3
    assert len(set(xmins)) == 1


def test_a_group_counts_a_transactional_member_in_its_commit(broker, book, follow, rows, tasks) -> None:
    tries = itertools.count(1)

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act(n: int) -> None:
        book(str(n))
        if next(tries) == 1:
            raise ValueError

    members = group(act.message(n) for n in range(3))
    members.add_completion_callback(follow.message("complete"))
    members.run()
    with working(broker):
        broker.join("default", timeout=10_000)

    assert tasks() == ["complete"]


def test_hooks_of_a_failure_at_commit_see_that_failure(broker, booked, paid, rows) -> None:
    """on_failure is told of the constraint, and on_success of nothing."""
    told: list[Any] = []

    @dramatiq.actor
    def good(message: Any, result: Any) -> None:
        told.append(("good", result))

    @dramatiq.actor
    def bad(message: Any, error: Any) -> None:
        told.append(("bad", error["type"]))

    @dramatiq.actor(transactional=True, max_retries=0, on_success="good", on_failure="bad")
    def act() -> str:
        with current_task().cursor() as cursor:
            cursor.execute("INSERT INTO paid VALUES ('a')")
        return "done"

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert told == [("bad", "ForeignKeyViolation")]


# --- steps and checkpoints --------------------------------------------------------------------------------------------


@pytest.fixture
def climb(broker, follow) -> dramatiq.Actor:
    """Book ten things, two in a step; it breaks off before the third step of its first run."""

    @dramatiq.actor(min_backoff=1)
    def climb() -> int:
        task = current_task()
        position = task.checkpoint() or 0
        starts.append(position)
        while position < 10:
            with task.step() as step:
                for n in range(position, position + 2):
                    with step.db_cursor() as cursor:
                        cursor.execute(INSERT % n)
                    follow.send(str(n))
                if position == 4 and len(starts) == 1:
                    raise ValueError
                step.cursor = position = position + 2
        return position

    starts: list[int] = []
    climb.starts = starts  # type: ignore[attr-defined]
    return climb


def test_a_later_run_goes_on_where_the_last_step_committed(broker, climb, booked, tasks) -> None:
    with working(broker):
        assert climb.send().get_result(block=True) == 10

    assert climb.starts == [0, 4]
    assert booked() == tasks() == [str(n) for n in range(10)]


def test_each_step_is_visible_when_it_is_done(broker, booked, rows) -> None:
    seen: list[Any] = []

    @dramatiq.actor
    def act() -> None:
        task = current_task()
        task.checkpoint()
        for n in range(3):
            with task.step() as step:
                step.session.execute(text(INSERT % n))
                step.cursor = {"at": n}
            seen.append((booked(), rows("SELECT cursor FROM pipeline.checkpoint")[0][0]))

    with working(broker):
        act.send().get_result(block=True)

    assert seen == [(["0"], {"at": 0}), (["0", "1"], {"at": 1}), (["0", "1", "2"], {"at": 2})]


def test_a_step_of_a_run_that_was_taken_over_is_refused(broker, booked, tasks, follow, rows) -> None:
    """A zombie comes back after its rescue: another run has opened the checkpoint."""
    raised: list[type] = []

    @dramatiq.actor(max_retries=0, throws=LeaseLost)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        with task.step() as step:
            step.db_cursor().execute(INSERT % "first")
            step.cursor = 1
        rows("SELECT pipeline.open_checkpoint_v1(%s, %s)", task.id, task.run + 1)
        try:
            with task.step() as step:
                step.db_cursor().execute(INSERT % "zombie")
                follow.send("zombie")
                step.cursor = 2
        except LeaseLost:
            raised.append(LeaseLost)
            raise

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert raised == [LeaseLost]
    assert (booked(), tasks()) == (["first"], [])
    assert rows("SELECT cursor FROM pipeline.checkpoint") == [(1,)]


def test_a_step_of_a_run_that_was_concluded_elsewhere_is_refused(broker, booked, rows) -> None:
    """Rescued, and the next run has not begun yet."""

    @dramatiq.actor(max_retries=0, throws=LeaseLost)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        conclude_elsewhere(rows, task.message, "f")
        with task.step() as step:
            step.db_cursor().execute(INSERT % "zombie")
            step.cursor = 1

    with working(broker):
        act.send()
        broker.join("default", timeout=5_000)

    assert booked() == []
    assert rows("SELECT cursor FROM pipeline.checkpoint") == [(None,)]


def test_a_rescue_waits_for_a_step_that_is_about_to_commit_and_the_next_run_sees_its_cursor(
    broker, booked, rows, connect
) -> None:
    """**R** The step holds the checkpoint's row between its last statement and COMMIT."""
    positions: list[Any] = []
    holds, may_commit = threading.Event(), threading.Event()

    @dramatiq.actor(max_retries=0, throws=LeaseLost)
    def act() -> None:
        task = current_task()
        positions.append(task.checkpoint())
        if task.run > 1:
            return
        with task.step() as step:
            step.db_cursor().execute(INSERT % "a")
            step.cursor = "done"
            # What save_checkpoint will do as the step's last statement.
            step.db_cursor().execute("SELECT 1 FROM pipeline.checkpoint WHERE task_id = %s FOR UPDATE", (task.id,))
            holds.set()
            may_commit.wait(10)

    with working(broker, threads=2):
        act.send()
        assert holds.wait(5)
        [(worker_id, beat)] = rows("SELECT worker_id, beat FROM pipeline.worker")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            rows("SELECT pipeline.rescue_v1(%s, (SELECT beat FROM pipeline.worker), 3)", worker_id)
        may_commit.set()
        eventually(lambda: rows("SELECT cursor FROM pipeline.checkpoint") == [("done",)])
        broker.join("default", timeout=10_000)

    assert booked() == ["a"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_step_belongs_to_the_engine_too(broker, booked, worker, end) -> None:
    @dramatiq.actor(max_retries=0)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        with task.step() as step:
            step.session.execute(text(INSERT % "a"))
            with pytest.raises(TransactionOwned):
                step.db_cursor().execute(end)
            step.cursor = 1

    act.send().get_result(block=True)
    assert booked() == ["a"]


def test_a_cursor_that_cannot_be_written_takes_its_step_back(broker, booked, history) -> None:
    @dramatiq.actor(max_retries=0)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        with task.step() as step:
            step.session.execute(text(INSERT % "a"))
            step.cursor = object()

    with working(broker), pytest.raises(ResultFailure, match="TypeError"):
        act.send().get_result(block=True)

    assert booked() == []


def test_a_step_whose_commit_was_lost_is_found_done_or_undone_by_the_next_run(
    proxy, proxied_broker, rows, booked
) -> None:
    positions: list[Any] = []

    @dramatiq.actor(min_backoff=1)
    def act() -> str:
        task = current_task()
        position = task.checkpoint()
        positions.append(position)
        if position is None:
            with task.step() as step:
                step.db_cursor().execute(INSERT % "a")
                step.cursor = "done"
                proxy.lose_answer_to(b"COMMIT")
        return "done"

    booked()
    with working(proxied_broker, threads=1):
        assert act.send().get_result(block=True, timeout=20_000) == "done"

    assert positions == [None, "done"]
    assert booked() == ["a"]


def test_sends_outside_a_step_are_sent_at_once(broker, follow, tasks) -> None:
    @dramatiq.actor(max_retries=0)
    def act() -> None:
        task = current_task()
        task.checkpoint()
        follow.send("before")
        with task.step() as step:
            follow.send("inside")
            step.cursor = 1
            assert tasks() == ["before"]
        assert tasks() == ["before", "inside"]
        raise ValueError

    with working(broker, threads=1):
        act.send()
        broker.join("default", timeout=5_000)

    assert tasks() == ["before", "inside"]
