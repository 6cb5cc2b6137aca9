"""``pipeline worker`` as an operator meets it: real processes, real signals."""

import json
import os
import signal
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.db import embedded
from pipeline.db.migrate import migrate
from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun, history, state
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.program import Program, children_of, is_alive, running
from tests.fixtures.wait import eventually


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


# --- processes that leave ---------------------------------------------------------------------------------------------


def outcomes(url: str) -> dict[str, int]:
    counts = "SELECT outcome, count(*) AS n FROM pipeline.attempt_history GROUP BY 1"
    return dict(json.loads(str(query(url, f"SELECT json_object_agg(outcome, n)::text FROM ({counts}) counted"))))


def live_workers(url: str) -> int:
    return int(str(query(url, "SELECT count(*) FROM pipeline.worker_status WHERE state = 'alive'")))


@pytest.mark.parametrize("limit", [("--max-tasks-per-child", "2"), ("--max-memory-mb", "1")])
def test_a_process_that_has_worked_enough_is_replaced_and_nothing_waits_for_it(
    database_url: str, place: Path, send: Send, start: Start, limit: tuple[str, str]
) -> None:
    """One task of it goes on: that neither ends early nor keeps the others waiting, which a successor runs."""
    worker = start("-p", "1", "-t", "2", *limit, ACTORS)
    long_one = send("long")
    (first,) = eventually(lambda: begun(place, "long"), within=30)
    (place / "others").mkdir()
    (place / "others/go").touch()
    names = iter(range(1_000))
    others: list[str] = []

    def runs_elsewhere() -> bool:
        others.append(send(f"n{next(names)}", "others"))
        eventually(lambda: state(database_url, others[-1]) == "succeeded", within=20)
        return first not in begun(place / "others", f"n{len(others) - 1}")

    eventually(runs_elsewhere, within=30)
    assert state(database_url, long_one) == "running"
    assert is_alive(first)
    (place / "go").touch()

    eventually(lambda: state(database_url, long_one) == "succeeded", within=20)
    eventually(lambda: not is_alive(first), within=20)
    assert set(outcomes(database_url)) <= {"succeeded", "interrupted"}
    assert outcomes(database_url)["succeeded"] == 1 + len(others)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_no_process_runs_more_tasks_than_it_may(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "2", "--max-tasks-per-child", "3", ACTORS)
    (place / "go").touch()
    ids = [send(f"n{number}") for number in range(10)]

    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in ids), within=60)

    ran_in = Counter(pid for number in range(10) for pid in begun(place, f"n{number}"))
    assert sorted(ran_in.values()) == [1, 3, 3, 3]
    assert outcomes(database_url) == {"succeeded": 10}
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_without_limits_processes_stay(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS)
    (place / "go").touch()
    ids = [send(name) for name in "abcdef"]
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in ids), within=30)

    assert len({pid for name in "abcdef" for pid in begun(place, name)}) == 1
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_sighup_replaces_one_process_after_the_other_and_ends_no_task(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "2", "-t", "1", ACTORS)
    eventually(lambda: len(processes(worker)) == 2 and live_workers(database_url) == 2, within=40)
    old = set(processes(worker))
    held = send("held")
    eventually(lambda: begun(place, "held"), within=20)

    worker.signal(signal.SIGHUP)

    # The one that holds the task goes on beside its successor; the other one is gone.
    eventually(lambda: len(set(processes(worker)) - old) == 2, within=40)
    eventually(lambda: set(processes(worker)) & old == set(begun(place, "held")), within=20)
    assert state(database_url, held) == "running"
    (place / "go").touch()
    eventually(lambda: len(processes(worker)) == 2, within=20)
    assert state(database_url, held) == "succeeded"
    assert outcomes(database_url) == {"succeeded": 1}
    eventually(lambda: live_workers(database_url) == 2, within=20)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_with_code_that_cannot_be_loaded_sighup_costs_one_process_at_most(
    database_url: str, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module = tmp_path / "rolled_actors.py"
    module.write_text("import pipeline\n\n@pipeline.actor(queue_name='held')\ndef rolled() -> None: ...\n")
    worker = start("-p", "2", "-t", "1", "rolled_actors")
    eventually(lambda: len(processes(worker)) == 2 and live_workers(database_url) == 2, within=40)
    old = set(processes(worker))
    module.write_text("raise RuntimeError('a bad release')\n")

    worker.signal(signal.SIGHUP)
    worker.says("a bad release", within=40)

    eventually(lambda: len(set(processes(worker)) & old) == 1, within=20)
    assert worker.output.count("worker.leaving") == 1
    assert live_workers(database_url) == 1
    module.write_text("import pipeline\n\n@pipeline.actor(queue_name='held')\ndef rolled() -> None: ...\n")
    eventually(lambda: live_workers(database_url) == 2 and not set(processes(worker)) & old, within=60)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_sigusr1_tells_what_runs_where(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "2", "-t", "1", ACTORS, log_format="json")
    ids = {send("a"), send("b")}
    eventually(lambda: begun(place, "a") and begun(place, "b"), within=40)

    worker.signal(signal.SIGUSR1)

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "task.running"]

    eventually(lambda: len(told()) == 2)
    assert {line["task_id"] for line in told()} == ids
    assert all(line["actor"] == "hold" and line["seconds"] >= 0 and line["thread"] for line in told())
    (place / "go").touch()
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def processes(worker: Program) -> list[int]:
    return [pid for pid in children_of(worker.process.pid) if is_alive(pid)]


# --- hard time limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", [program_actors.spin, program_actors.clamp])
def test_a_run_beyond_its_hard_limit_is_gone_and_only_its_own_process_with_it(
    database_url: str, place: Path, send: Send, start: Start, actor: dramatiq.Actor[..., Any]
) -> None:
    """Whether it spins in Python or holds the GIL. Its neighbour in the process runs again, with no attempt counted; the
    tasks of other processes notice nothing."""
    worker = start("-p", "2", "-t", "2", ACTORS)
    eventually(lambda: live_workers(database_url) == 2, within=40)
    holds = {name: send(name) for name in "abc"}
    eventually(lambda: all(begun(place, name) for name in holds), within=20)
    stuck = send("stuck", actor=actor)
    (victim,) = eventually(lambda: begun(place, "stuck"), within=20)
    began = time.monotonic()
    neighbours = {name for name in holds if begun(place, name) == [victim]}

    eventually(lambda: not is_alive(victim), within=10)
    assert time.monotonic() - began < 1.5 + 2 + 0.5  # its limit, and two seconds; half a one for a slow look

    eventually(lambda: state(database_url, stuck) == "failed", within=20)
    assert history(database_url, stuck) == [
        [0, "interrupted", "ProcessKilled", "time_limit"],
        [1, "failed", "HardTimeLimitExceeded", "time_limit"],
    ]
    eventually(lambda: all(len(begun(place, name)) == 1 + (name in neighbours) for name in holds), within=20)
    (place / "go").touch()
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in holds.values()), within=20)
    for name, task_id in holds.items():
        before = [[0, "interrupted", None, None]] if name in neighbours else []
        assert history(database_url, task_id) == [*before, [1, "succeeded", None, None]]
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_a_run_that_was_killed_is_retried_as_its_actor_says(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS)
    task_id = send("once", actor=program_actors.spin_once)

    eventually(lambda: state(database_url, task_id) == "succeeded", within=40)

    assert history(database_url, task_id) == [
        [0, "interrupted", "ProcessKilled", "time_limit"],
        [1, "retry", "HardTimeLimitExceeded", "time_limit"],
        [2, "succeeded", None, None],
    ]
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
