"""``pipeline worker`` as an operator meets it: real processes, real signals."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.db import embedded
from pipeline.db.migrate import migrate
from pipeline.settings import Settings
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.program import Program, children_of, is_alive, running
from tests.fixtures.wait import eventually

ACTORS = "tests.fixtures.program_actors"
#: Long enough that nobody but the supervisor can be the one who helps.
UNHURRIED = {"lease_seconds": 60, "beat_seconds": 1}

Send = Callable[..., str]
Start = Callable[..., Program]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where held tasks say that they have begun."""
    return tmp_path


@pytest.fixture
def send(database_url: str, place: Path) -> Iterator[Send]:
    """Send ``hold`` to the test's database and return the task's id."""
    with closing(PostgresBroker(settings=Settings(database_url=database_url))) as broker:
        broker.declare_queue("held")

        def enqueue(name: str) -> str:
            message = program_actors.hold.message(str(place), name)
            return str(broker.enqueue(message).message_id)

        yield enqueue


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start ``pipeline worker`` on the test's database, once."""
    programs: list[Any] = []

    def begin(*arguments: str, **settings: object) -> Program:
        context = running(tmp_path, "worker", *arguments, database_url=database_url, **UNHURRIED, **settings)
        programs.append(context)
        return context.__enter__()

    yield begin
    for context in programs:
        context.__exit__(None, None, None)


def begun(place: Path, name: str) -> list[int]:
    """List the processes in which a held task has begun."""
    return [int(path.suffix[1:]) for path in place.glob(f"{name}.[0-9]*")]


def state(url: str, task_id: str) -> object:
    return query(url, "SELECT state FROM pipeline.task_status WHERE task_id = %s", (task_id,))


def test_sigterm_lets_tasks_in_flight_finish_and_gives_back_the_others(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "1", "-t", "2", ACTORS)
    ids = [send(name) for name in "abcd"]
    eventually(lambda: begun(place, "a") and begun(place, "b"), within=30)

    worker.signal(signal.SIGTERM)
    worker.says("supervisor.stopping")
    assert worker.is_running
    (place / "go").touch()

    assert worker.end() == 0
    assert [state(database_url, task_id) for task_id in ids] == ["succeeded", "succeeded", "queued", "queued"]


def test_tasks_that_do_not_finish_in_time_wait_again_and_are_not_counted(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS, stop_seconds=0.5)
    task_id = send("a")
    eventually(lambda: begun(place, "a"), within=30)

    worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert state(database_url, task_id) == "queued"
    assert query(database_url, "SELECT outcome FROM pipeline.attempt_history") == "interrupted"


def test_a_second_signal_ends_everything_at_once(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS)
    task_id = send("a")
    eventually(lambda: begun(place, "a"), within=30)
    worker.signal(signal.SIGINT)
    worker.says("supervisor.stopping")

    worker.signal(signal.SIGINT)

    assert worker.end(within=5) == 1
    assert state(database_url, task_id) == "queued"


def test_a_killed_process_is_replaced_alone_and_its_tasks_run_again_at_once(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "2", "-t", "1", ACTORS)
    eventually(lambda: len(children_of(worker.process.pid)) == 2, within=30)
    worker.says("worker_id=2")
    task_id = send("a")
    (victim,) = eventually(lambda: begun(place, "a"), within=30)
    (other,) = set(children_of(worker.process.pid)) - {victim}
    beat = "SELECT count(*) FROM pipeline.worker WHERE running <> '{}'"
    eventually(lambda: query(database_url, beat) == 1)

    os.kill(victim, signal.SIGKILL)

    eventually(lambda: len(begun(place, "a")) == 2, within=10)
    eventually(lambda: len(children_of(worker.process.pid)) == 2, within=30)
    assert other in children_of(worker.process.pid)
    (place / "go").touch()
    eventually(lambda: state(database_url, task_id) == "succeeded")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


@pytest.mark.leaves("worker", "claim")
def test_no_process_outlives_a_killed_master(place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS)
    send("a")
    (child,) = eventually(lambda: begun(place, "a"), within=30)

    worker.signal(signal.SIGKILL)

    eventually(lambda: not is_alive(child))


def test_only_the_named_queues_are_served(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "1", "-Q", "other", ACTORS)
    task_id = send("a")
    worker.says("worker.started")
    eventually(lambda: query(database_url, "SELECT queues = '{other}' FROM pipeline.worker"), within=10)

    worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert state(database_url, task_id) == "queued"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no_such_module"], "There is no module no_such_module"),
        (["tests.fixtures.program_broken"], "cannot be imported: RuntimeError('the catalogue is missing')"),
        (["tests.fixtures.wait"], "There is no actor in tests.fixtures.wait"),
        (["-Q", "held,nope,naught", ACTORS], "uses the queue naught, nope; there is held, other"),
    ],
)
def test_what_can_never_work_is_said_once(start: Start, arguments: list[str], complaint: str) -> None:
    worker = start("-p", "2", *arguments)

    assert worker.end() == 78
    assert worker.output.count(complaint) == 1
    assert worker.output.count("worker.unusable") == 1


def test_an_older_schema_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    with running(tmp_path, "worker", ACTORS, database_url=empty_database_url) as worker:
        assert worker.end() == 3
        assert "Run: pipeline migrate" in worker.output
        assert "Traceback" not in worker.output


def test_workers_wait_for_a_database_that_is_away_and_go_on(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    server = embedded.start(home)
    migrate(server.url)
    with running(
        tmp_path, "worker", "-p", "1", "-t", "1", ACTORS, database_url=server.url, lease_seconds=5, beat_seconds=1
    ) as worker:
        worker.says("worker.started")
        server.stop()
        worker.says("hub.interrupted")

        with embedded.start(home) as server, closing(PostgresBroker(url=server.url)) as broker:
            broker.declare_queue("other")
            task_id = str(broker.enqueue(program_actors.ping.message()).message_id)
            eventually(lambda: state(server.url, task_id) == "succeeded", within=20)
            worker.signal(signal.SIGTERM)
            assert worker.end() == 0
