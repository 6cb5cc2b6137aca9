"""Processes: Dramatiq's own command line, forks, and imports that do nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dramatiq
import pytest

from pipeline import PostgresBroker
from tests.fixtures.broker import global_broker
from tests.fixtures.wait import eventually

ROOT = Path(__file__).parents[3]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    return done


@contextmanager
def dramatiq_command(url: str, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m dramatiq`` on the sample project."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "tests.integration.broker.sample_project", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), "SAMPLE_URL": url},
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def sample(database_url: str) -> Iterator[PostgresBroker]:
    """The producer's side of the sample project."""
    with global_broker(PostgresBroker(url=database_url)) as broker:

        @dramatiq.actor
        def add(x: int, y: int) -> int: ...

        @dramatiq.actor(queue_name="slow")
        def take(milliseconds: int) -> str: ...

        yield broker


def test_dramatiqs_own_command_works_and_ends_in_good_order(sample, database_url, tmp_path, rows) -> None:
    with dramatiq_command(database_url, tmp_path / "log", "--processes", "1", "--threads", "2") as process:
        add = sample.get_actor("add")
        messages = [add.send(x, x) for x in range(50)]
        results = [message.get_result(block=True, timeout=30_000) for message in messages]
        slow = sample.get_actor("take").send(1_000)
        eventually(
            lambda: rows("SELECT 1 FROM pipeline.task_status WHERE actor = 'take' AND state = 'running'"), within=20
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    assert results == [2 * x for x in range(50)]
    assert slow.get_result() == "done"  # what ran was allowed to finish
    assert rows("SELECT state FROM pipeline.worker") == [("s",)]


def test_dramatiqs_own_command_takes_only_the_queues_it_is_told(sample, database_url, tmp_path, rows) -> None:
    slow = sample.get_actor("take").send(0)
    options = ("--processes", "1", "--threads", "1", "--queues", "default")
    with dramatiq_command(database_url, tmp_path / "log", *options):
        sample.get_actor("add").send(1, 1).get_result(block=True, timeout=30_000)

    assert rows("SELECT state FROM pipeline.task_status WHERE task_id = %s", slow.message_id) == [("queued",)]


def test_importing_constructing_and_declaring_opens_no_connection() -> None:
    """The address leads nowhere: a resolver or a socket that was asked would have raised or been counted."""
    told = run_python(
        """
        import socket, threading

        def refuse(*args, **kwargs):
            raise AssertionError("somebody opened a connection")

        socket.socket.connect = socket.getaddrinfo = refuse
        import psycopg2
        psycopg2.connect = refuse

        import dramatiq, pipeline
        broker = pipeline.PostgresBroker(url="postgresql://nobody@127.0.0.1:1/nothing")
        dramatiq.set_broker(broker)

        @dramatiq.actor(queue_name="some", priority=3)
        def noop(): pass

        @pipeline.actor(transactional=True)
        def booked(): pass

        noop.message(), broker.get_results_backend(), dramatiq.Worker(broker)
        print(sorted(broker.get_declared_queues()), threading.active_count())
        """,
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
    )

    assert told.stdout.split("\n")[-2] == "['default', 'some'] 1"


FORK = """
    import os, sys, dramatiq
    from pipeline import PostgresBroker

    broker = PostgresBroker(url=os.environ["SAMPLE_URL"])
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def note(who): pass

    def sessions(question):
        with broker.pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute(question + " FROM pg_stat_activity WHERE datname = current_database()")
            return set(cursor.fetchone()[0])

    for _ in range(30):  # more than the notifier's bucket holds, so that its thread runs
        note.send("parent before")
    mine = sessions("SELECT array_agg(pid)")
    child = os.fork()
    if child == 0:
        for _ in range(30):
            note.send("child")
        own = sessions("SELECT array_agg(DISTINCT pg_backend_pid())")
        assert own.isdisjoint(mine), "the child used its parent's session"
        sys.exit(0)
    note.send("parent meanwhile")
    assert os.waitpid(child, 0)[1] == 0
    note.send("parent after")
    assert mine <= sessions("SELECT array_agg(pid)"), "the child closed its parent's session"
"""


def test_parent_and_child_of_a_fork_both_send(database_url, rows: Callable) -> None:
    run_python(FORK, SAMPLE_URL=database_url)

    assert sorted(rows("SELECT args->>0, count(*) FROM pipeline.task_status GROUP BY 1")) == [
        ("child", 30),
        ("parent after", 1),
        ("parent before", 30),
        ("parent meanwhile", 1),
    ]


def test_a_child_of_a_fork_waits_for_results_although_its_parent_did_before(sample, database_url, tmp_path) -> None:
    with dramatiq_command(database_url, tmp_path / "log", "--processes", "1", "--threads", "2"):
        sample.get_actor("add").send(1, 1).get_result(block=True, timeout=30_000)
        told = run_python(
            """
            import os, sys, dramatiq
            from pipeline import PostgresBroker

            broker = PostgresBroker(url=os.environ["SAMPLE_URL"])
            dramatiq.set_broker(broker)

            @dramatiq.actor
            def add(x, y): pass

            print(add.send(1, 2).get_result(block=True), flush=True)
            child = os.fork()
            if child == 0:
                print(add.send(3, 4).get_result(block=True), flush=True)
                sys.exit(0)
            print(add.send(5, 6).get_result(block=True), flush=True)
            assert os.waitpid(child, 0)[1] == 0
            """,
            SAMPLE_URL=database_url,
        )

    assert sorted(map(int, told.stdout.split())) == [3, 7, 11]


def test_a_send_just_before_the_end_of_a_program_still_wakes_a_worker(database_url, connect) -> None:
    """A trailing notification is sent at exit."""
    listener = connect(autocommit=True)
    with listener.cursor() as cursor:
        cursor.execute("LISTEN pipeline")
    run_python(
        """
        import os, dramatiq
        from pipeline import PostgresBroker

        broker = PostgresBroker(url=os.environ["SAMPLE_URL"])
        dramatiq.set_broker(broker)

        @dramatiq.actor
        def noop(): pass

        while broker.notifier.take():
            pass
        noop.send()
        """,
        SAMPLE_URL=database_url,
    )

    listener.poll()
    assert {notify.channel for notify in listener.notifies} == {"pipeline"}
