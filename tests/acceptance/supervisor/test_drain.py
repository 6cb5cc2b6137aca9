"""``pipeline worker list`` and ``drain``, with real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun, state
from tests.fixtures.database import query
from tests.fixtures.program import ROOT, children_of, environment_of, is_alive
from tests.fixtures.wait import eventually


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "worker", *arguments],
        env=environment_of(database_url=url),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_drained_process_finishes_its_tasks_and_has_no_successor(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "2", "-t", "1", ACTORS)
    eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.worker") == 2, within=40)
    held = send("held")
    (busy,) = eventually(lambda: begun(place, "held"), within=20)
    (other,) = (pid for pid in children_of(worker.process.pid) if is_alive(pid) and pid != busy)
    rows = eventually(
        lambda: [row for row in json.loads(command(database_url, "list", "--json").stdout) if row["tasks"]], within=20
    )
    (drained,) = [row["worker_id"] for row in rows]
    assert [task["task_id"] for task in rows[0]["tasks"]] == [held]

    done = command(database_url, "drain", str(drained), "--reason", "an old disk", "--who", "ada")

    assert (done.returncode, done.stdout) == (0, f"The worker {drained} drains.\n")
    worker.says("reason=drained", within=10)
    (place / "rest").mkdir()
    (place / "rest/go").touch()
    rest = [send(f"r{number}", "rest") for number in range(5)]
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in rest), within=20)
    assert {pid for number in range(5) for pid in begun(place / "rest", f"r{number}")} == {other}
    assert state(database_url, held) == "running"
    assert "draining" in command(database_url, "list").stdout
    (place / "go").touch()
    eventually(lambda: state(database_url, held) == "succeeded")
    eventually(lambda: not is_alive(busy), within=20)
    assert [pid for pid in children_of(worker.process.pid) if is_alive(pid)] == [other]
    noted = "SELECT string_agg(concat_ws('|', action, who, reason, worker_id), ',') FROM pipeline.audit"
    assert query(database_url, noted) == f"drain|ada|an old disk|{drained}"

    for wrong, status, complaint in (
        (str(drained), 1, f"Error: The worker {drained} is stopped; only one that is alive can be drained\n"),
        ("999", 5, "Error: There is no worker 999\n"),
    ):
        refused = command(database_url, "drain", wrong)
        assert (refused.returncode, refused.stderr) == (status, complaint)
    assert worker.is_running

    assert command(database_url, "drain", "--all").returncode == 0
    assert worker.end(within=20) == 0
    assert not is_alive(other)
    assert command(database_url, "drain", "--all").returncode == 5


def test_a_process_that_dies_before_it_learns_that_it_is_drained_has_no_successor(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS, beat_seconds=25)
    task_id = send("a")
    (victim,) = eventually(lambda: begun(place, "a"), within=30)
    assert command(database_url, "drain", "--all").returncode == 0

    os.kill(victim, signal.SIGKILL)

    assert worker.end(within=20) == 0
    assert state(database_url, task_id) == "queued"
