"""Cancel against real worker processes: softly, and by force."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker, cancel
from pipeline.settings import Settings
from tests.fixtures import program_actors
from tests.fixtures.broker import global_broker
from tests.fixtures.database import query
from tests.fixtures.program import Program, is_alive, running
from tests.fixtures.wait import eventually

ACTORS = "tests.fixtures.program_actors"
GRACE = timedelta(seconds=1)

Send = Callable[..., str]


@pytest.fixture
def send(database_url: str, tmp_path: Path) -> Iterator[Send]:
    """Send an actor's message to the test's database; cancels go there, too."""
    with global_broker(PostgresBroker(settings=Settings(database_url=database_url))) as broker:
        broker.declare_queue("held")

        def enqueue(actor: dramatiq.Actor[..., Any], name: str, **options: Any) -> str:
            message = actor.message_with_options(args=(str(tmp_path), name), **options)
            return str(broker.enqueue(message).message_id)

        yield enqueue


@pytest.fixture
def worker(database_url: str, tmp_path: Path) -> Iterator[Program]:
    """``pipeline worker`` with two processes of two threads, and leases so long that nobody else helps."""
    settings = {"database_url": database_url, "lease_seconds": 60, "beat_seconds": 1}
    with running(tmp_path, "worker", "-p", "2", "-t", "2", ACTORS, **settings) as program:
        alive = "SELECT count(*) FROM pipeline.worker_status WHERE state = 'alive'"
        eventually(lambda: query(database_url, alive) == 2, within=40)
        yield program
        program.signal(signal.SIGTERM)
        assert program.end() == 0


def begun(place: Path, name: str) -> list[int]:
    """List the processes in which a task has begun."""
    return [int(path.suffix[1:]) for path in place.glob(f"{name}.[0-9]*")]


def history(url: str, task_id: str) -> object:
    question = "SELECT string_agg(outcome, ' ' ORDER BY run) FROM pipeline.attempt_history WHERE task_id = %s"
    return query(url, question, (task_id,))


def state(url: str, task_id: str) -> object:
    return query(url, "SELECT state FROM pipeline.task_status WHERE task_id = %s", (task_id,))


def test_a_busy_loop_ends_within_two_seconds_and_its_process_lives(
    database_url: str, tmp_path: Path, send: Send, worker: Program
) -> None:
    task_id = send(program_actors.spin, "busy", hard_time_limit=600_000)
    (pid,) = eventually(lambda: begun(tmp_path, "busy"), within=20)

    cancel(task_id, who="ada", reason="enough")
    asked = time.monotonic()

    eventually(lambda: state(database_url, task_id) == "cancelled", within=10)
    assert time.monotonic() - asked < 2 + 1
    assert history(database_url, task_id) == "cancelled"
    assert is_alive(pid)


@pytest.mark.parametrize("actor", [program_actors.doze, program_actors.clamp])
def test_what_hears_nothing_is_ended_with_its_process_and_nobody_else_is(
    database_url: str, tmp_path: Path, send: Send, worker: Program, actor: dramatiq.Actor[..., Any]
) -> None:
    """Whether it sleeps in C code or holds the GIL. Its neighbour runs again, uncounted; other processes go on."""
    holds = {name: send(program_actors.hold, name) for name in "abc"}
    eventually(lambda: all(begun(tmp_path, name) for name in holds), within=20)
    stuck = send(actor, "stuck", hard_time_limit=600_000)
    (victim,) = eventually(lambda: begun(tmp_path, "stuck"), within=20)
    neighbours = {name for name in holds if begun(tmp_path, name) == [victim]}

    cancel(stuck, who="ada", reason="hangs", force=True, grace=GRACE)
    asked = time.monotonic()

    eventually(lambda: not is_alive(victim), within=20)
    took = time.monotonic() - asked
    assert GRACE.total_seconds() <= took < GRACE.total_seconds() + 3 + 1
    eventually(lambda: state(database_url, stuck) == "cancelled", within=5)
    assert history(database_url, stuck) == "cancelled"
    assert begun(tmp_path, "stuck") == [victim]

    eventually(lambda: all(len(begun(tmp_path, name)) == 1 + (name in neighbours) for name in holds), within=20)
    (tmp_path / "go").touch()
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in holds.values()), within=20)
    for name, task_id in holds.items():
        assert history(database_url, task_id) == ("interrupted succeeded" if name in neighbours else "succeeded")
    attempts = "SELECT array_agg(DISTINCT attempt) FROM pipeline.task_status WHERE state = 'succeeded'"
    assert query(database_url, attempts) == [1]


def test_without_force_no_process_is_killed_until_somebody_insists(
    database_url: str, tmp_path: Path, send: Send, worker: Program
) -> None:
    task_id = send(program_actors.doze, "dozing")
    (pid,) = eventually(lambda: begun(tmp_path, "dozing"), within=20)
    cancel(task_id, who="ada")
    worker.says("task.cancelling", within=10)
    assert is_alive(pid)
    eventually(lambda: state(database_url, task_id) == "running")

    cancel(task_id, who="bob", force=True, grace=timedelta(0))

    eventually(lambda: not is_alive(pid), within=10)
    eventually(lambda: state(database_url, task_id) == "cancelled", within=5)


def test_a_force_in_a_transaction_that_is_rolled_back_kills_nobody(
    database_url: str, tmp_path: Path, send: Send, worker: Program, connect: Callable[..., Any]
) -> None:
    task_id = send(program_actors.hold, "held")
    (pid,) = eventually(lambda: begun(tmp_path, "held"), within=20)
    with closing(connect()) as connection:
        cancel(task_id, who="ada", force=True, grace=timedelta(0), target=connection)
        beats = "SELECT sum(beat) FROM pipeline.worker"
        before = int(str(query(database_url, beats)))
        eventually(lambda: int(str(query(database_url, beats))) >= before + 6, within=20)  # three seconds of both
        connection.rollback()
    (tmp_path / "go").touch()

    eventually(lambda: state(database_url, task_id) == "succeeded", within=10)
    assert begun(tmp_path, "held") == [pid]
