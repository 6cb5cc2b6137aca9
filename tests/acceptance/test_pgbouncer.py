"""Producers and workers behind a PgBouncer in transaction mode, which keeps no session for anybody."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

import pipeline
from api.live.live import Live
from api.live.subscription import Follower
from pipeline import PostgresBroker
from pipeline.db.connection import connect, is_direct
from pipeline.settings import Settings
from tests.fixtures import pooled_actors, program_actors
from tests.fixtures.database import query
from tests.fixtures.pgbouncer import NO_PGBOUNCER, pgbouncer, program
from tests.fixtures.process_broker import process_broker
from tests.fixtures.program import Program, running
from tests.fixtures.wait import eventually

pytestmark = [
    pytest.mark.skipif(program() is None, reason=NO_PGBOUNCER),
    pytest.mark.timeout(180),
]

ACTORS = ["tests.fixtures.program_actors", "tests.fixtures.pooled_actors"]


@pytest.fixture
def pooled_url(database_url: str, server_url: str) -> Iterator[str]:
    """The way to the test's database through PgBouncer."""
    with pgbouncer(server_url) as pooler:
        yield pooler.url(database_url)


@pytest.fixture
def broker(pooled_url: str) -> Iterator[PostgresBroker]:
    """The actors' broker, which sends through PgBouncer."""
    with process_broker(pooled_url) as broker:
        yield broker


@contextmanager
def worker(directory: Path, url: str) -> Iterator[Program]:
    """``pipeline worker``, which polls."""
    settings = {"database_url": url, "listen": "false", "lease_seconds": 60, "beat_seconds": 1}
    with running(directory, "worker", "-p", "2", "-t", "4", *ACTORS, **settings) as program:
        yield program
        if program.is_running:
            program.signal(signal.SIGTERM)
            assert program.end() == 0
        assert not re.search(r"(hub|caretaker|supervisor)\.(interrupted|failed|crashed)", program.output), (
            program.output
        )


def test_a_worker_knows_that_its_session_is_not_its_own(pooled_url: str) -> None:
    """So it prepares nothing there, whether or not somebody told it about the pooler."""
    connection = connect(pooled_url)
    assert not is_direct(connection)
    connection.close()


def test_those_who_watch_are_told_by_polling(broker: PostgresBroker, pooled_url: str, database_url: str) -> None:
    live, follower = Live(Settings(database_url=pooled_url)), Follower()
    with closing(live), live.joined(follower):
        first = eventually(lambda: follower.take(0.1), within=20)
        assert b"event: snapshot" in first.frame
        task_id = pooled_actors.add.send(1, 1).message_id

        assert task_id.encode() in eventually(lambda: follower.take(0.1), within=20).frame
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^LISTEN' AND datname = current_database()"
    assert query(database_url, listening) == 0


def states(url: str, ids: list[str]) -> object:
    question = "SELECT string_agg(DISTINCT state, ' ') FROM pipeline.task_status WHERE task_id = ANY (%s::uuid[])"
    return query(url, question, (ids,))


def test_tasks_run_and_transactional_ones_commit_once(
    broker: PostgresBroker, pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    query(database_url, "CREATE TABLE booking (what text PRIMARY KEY); SELECT 1")
    with worker(tmp_path, pooled_url):
        ids = [pooled_actors.add.send(number, 1).message_id for number in range(20)]
        ids += [each.message_id for each in broker.send_many(pooled_actors.add.message(1, 1) for _ in range(100))]
        ids += [pooled_actors.book.send(f"order {number}").message_id for number in range(40)]

        eventually(lambda: states(database_url, ids) == "succeeded", within=60)
        assert pooled_actors.add.send(2, 3).get_result(block=True, timeout=30_000) == 5

    assert query(database_url, "SELECT count(*) FROM booking") == 80
    announced = "SELECT count(*) FROM pipeline.task_status WHERE actor = 'announce'"
    eventually(lambda: query(database_url, announced) == 40)


def test_a_send_in_the_callers_transaction_is_gone_with_it(
    broker: PostgresBroker, pooled_url: str, database_url: str
) -> None:
    with closing(psycopg2.connect(pooled_url)) as connection:
        with broker.enlist(connection):
            refused = pooled_actors.add.send(1, 1)
        connection.rollback()
        with broker.enlist(connection):
            accepted = pooled_actors.add.send(1, 1)
        connection.commit()

    assert states(database_url, [refused.message_id]) is None
    assert states(database_url, [accepted.message_id]) == "queued"


def test_a_running_task_is_cancelled(
    broker: PostgresBroker, pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    with worker(tmp_path, pooled_url):
        task_id = program_actors.hold.send(str(tmp_path), "a").message_id
        eventually(lambda: list(tmp_path.glob("a.[0-9]*")), within=40)

        pipeline.cancel(task_id, who="test")

        eventually(lambda: states(database_url, [task_id]) == "cancelled", within=20)


def test_what_a_worker_did_not_finish_runs_in_the_next(
    broker: PostgresBroker, pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    with worker(tmp_path, pooled_url) as first:
        ids = [program_actors.hold.send(str(tmp_path), name).message_id for name in "abcdefghijkl"]
        eventually(lambda: list(tmp_path.glob("a.[0-9]*")), within=40)
        first.signal(signal.SIGTERM)
        first.says("supervisor.stopping")
        (tmp_path / "go").touch()
        assert first.end() == 0
        assert "queued" in str(states(database_url, ids))

    with worker(tmp_path, pooled_url):
        eventually(lambda: states(database_url, ids) == "succeeded", within=60)


@pytest.mark.leaves("worker")
def test_a_killed_process_is_replaced_and_its_tasks_run_again(
    broker: PostgresBroker, pooled_url: str, database_url: str, tmp_path: Path
) -> None:
    with worker(tmp_path, pooled_url):
        task_id = program_actors.hold.send(str(tmp_path), "a").message_id
        (victim,) = eventually(lambda: list(tmp_path.glob("a.[0-9]*")), within=40)

        os.kill(int(victim.suffix[1:]), signal.SIGKILL)

        eventually(lambda: len(list(tmp_path.glob("a.[0-9]*"))) == 2, within=30)
        (tmp_path / "go").touch()
        eventually(lambda: states(database_url, [task_id]) == "succeeded", within=30)
