"""However an actor comes to its connection, what it writes is in the transaction of its outcome."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import dramatiq
import psycopg2
import pytest
from dramatiq.results import ResultFailure
from psycopg2 import sql
from psycopg2.extensions import ISOLATION_LEVEL_SERIALIZABLE
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812
from psycopg2.extras import RealDictCursor, execute_values
from sqlalchemy import text

from pipeline import current_task
from tests.fixtures.broker import working

INSERT = "INSERT INTO booking VALUES (%s)"


def connection() -> Any:
    return current_task().cursor().connection


def by_named_cursor(what: str) -> None:
    with connection().cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert len(cursor.fetchall()) == 3
    current_task().cursor().execute(INSERT, (what,))


def by_large_object(what: str) -> None:
    large = connection().lobject(0, "wb")
    large.write(what.encode())
    large.close()
    current_task().cursor().execute("INSERT INTO booking SELECT convert_from(lo_get(%s), 'utf8')", (large.oid,))


def by_session_stream(what: str) -> None:
    session = current_task().session
    found = session.execute(text("SELECT generate_series(1, 3)").execution_options(stream_results=True))
    assert len(found.all()) == 3
    session.execute(text("INSERT INTO booking VALUES (:what)"), {"what": what})


DOORS: dict[str, Callable[[str], Any]] = {
    "text": lambda what: current_task().cursor().execute(INSERT, (what,)),
    "bytes": lambda what: current_task().cursor().execute(INSERT.encode(), (what,)),
    "composed": lambda what: (
        current_task()
        .cursor()
        .execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier("booking"), sql.Literal(what)))
    ),
    "executemany": lambda what: current_task().cursor().executemany(INSERT, [(what,)]),
    "execute_values": lambda what: execute_values(current_task().cursor(), "INSERT INTO booking VALUES %s", [(what,)]),
    "COPY": lambda what: current_task().cursor().copy_expert("COPY booking FROM STDIN", io.StringIO(what + "\n")),
    "a cursor of another class": lambda what: (
        connection().cursor(cursor_factory=RealDictCursor).execute(INSERT, (what,))
    ),
    "a cursor made by hand": lambda what: PlainCursor(connection()).execute(INSERT, (what,)),
    "a named cursor": by_named_cursor,
    "a large object": by_large_object,
    "a session": lambda what: current_task().session.execute(text(INSERT % f"'{what}'")),
    "a session that streams": by_session_stream,
}


@pytest.fixture(params=DOORS.values(), ids=DOORS)
def write(request) -> Callable[[str], None]:
    return request.param


@pytest.fixture(
    params=[[], ["text"], ["a session"], ["executemany"]], ids=["first", "after text", "after session", "after many"]
)
def before(request) -> list[Callable[[str], None]]:
    """What was written before, and how."""
    return [DOORS[name] for name in request.param]


def test_it_commits_with_the_outcome(broker, booked, rows, before, write) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        for number, each in enumerate(before):
            each(f"before {number}")
        write("it")
        return "done"

    with working(broker, threads=1):
        assert act.send().get_result(block=True, timeout=10_000) == "done"

    assert booked() == [*(f"before {number}" for number in range(len(before))), "it"]
    assert rows(
        "SELECT count(DISTINCT xmin::text) FROM "
        "(SELECT xmin FROM booking UNION ALL SELECT xmin FROM pipeline.attempt) AS written"
    ) == [(1,)]


def test_it_goes_with_a_failure(broker, booked, rows, before, write) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        for each in before:
            each("before")
        write("it")
        raise ValueError

    with working(broker, threads=1), pytest.raises(ResultFailure):
        act.send().get_result(block=True, timeout=10_000)

    assert booked() == []
    assert rows("SELECT state FROM pipeline.task_status") == [("failed",)]


def test_the_next_task_finds_its_connection_as_it_should_be(broker, booked, write) -> None:
    """One thread, and so one connection, by turns for a task that fails and one that does not."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def act(what: str, is_failing: bool) -> str:
        write(what)
        if is_failing:
            raise ValueError
        return "done"

    with working(broker, threads=1):
        sent = [act.send(str(number), number % 2 == 0) for number in range(6)]
        for number, message in enumerate(sent):
            if number % 2:
                assert message.get_result(block=True, timeout=10_000) == "done"

    assert booked() == ["1", "3", "5"]


# --- what goes wrong with the first statement ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: current_task().cursor().execute("SELEC 1"),
        lambda: current_task().cursor().execute("SELECT %s", ()),
        lambda: current_task().cursor().execute("SELECT %s", (object(),)),
    ],
    ids=["no SQL", "too few parameters", "no parameter"],
)
def test_one_that_never_ran_began_nothing(broker, booked, wrong) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> str:
        with pytest.raises((psycopg2.Error, IndexError, TypeError)):
            wrong()
        DOORS["text"]("a")
        DOORS["COPY"]("b")
        return "done"

    with working(broker, threads=1):
        assert act.send().get_result(block=True, timeout=10_000) == "done"
    assert booked() == ["a", "b"]


def test_one_that_failed_has_spoilt_the_transaction(broker, booked, rows) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> None:
        with pytest.raises(psycopg2.Error):
            current_task().cursor().execute("SELECT 1/0")
        DOORS["text"]("a")

    with working(broker, threads=1), pytest.raises(ResultFailure, match="InFailedSqlTransaction"):
        act.send().get_result(block=True, timeout=10_000)
    assert booked() == []


def test_what_a_transaction_shall_be_like_is_heeded(broker, booked) -> None:
    @dramatiq.actor(transactional=True, max_retries=0)
    def act() -> list[str]:
        connection().set_session(isolation_level=ISOLATION_LEVEL_SERIALIZABLE)
        cursor = current_task().cursor()
        cursor.execute("SHOW transaction_isolation")
        (level,) = cursor.fetchone()
        with pytest.raises(psycopg2.ProgrammingError):
            connection().set_session(readonly=True)
        DOORS["text"]("a")
        return [level]

    @dramatiq.actor(transactional=True, max_retries=0)
    def begun() -> str:
        DOORS["text"]("b")
        with pytest.raises(psycopg2.ProgrammingError):
            connection().set_session(readonly=True)
        return "done"

    with working(broker, threads=1):
        assert begun.send().get_result(block=True, timeout=10_000) == "done"
        assert act.send().get_result(block=True, timeout=10_000) == ["serializable"]
    assert booked() == ["a", "b"]


def test_an_answer_lost_to_fence_and_commit_together_is_settled_by_the_fence(
    proxy, proxied_broker, rows, booked
) -> None:
    ran: list[int] = []
    booked()

    @dramatiq.actor(transactional=True, min_backoff=1)
    def act() -> str:
        ran.append(current_task().run)
        DOORS["text"]("a")
        proxy.lose_answer_to(b";COMMIT")
        return "done"

    with working(proxied_broker, threads=1):
        assert act.send().get_result(block=True, timeout=20_000) == "done"

    assert proxy.has_lost.is_set()
    assert (ran, booked()) == ([1], ["a"])


def test_an_actor_that_forgets_prepared_statements_harms_nobody_but_itself(broker, booked) -> None:
    @dramatiq.actor(transactional=True, max_retries=1, min_backoff=1)
    def act(what: str) -> str:
        DOORS["text"](what)
        if current_task().attempt == 1 and what == "a":
            current_task().cursor().execute("DEALLOCATE ALL")
        return "done"

    with working(broker, threads=1):
        for what in ("a", "b"):
            assert act.send(what).get_result(block=True, timeout=10_000) == "done"
    assert booked() == ["a", "b"]
