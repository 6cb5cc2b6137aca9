"""Processes that die one after the other: an orchestrator must see it, and see when it is over."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.program import ROOT, environment_of
from tests.fixtures.wait import eventually


def check(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", "worker", "check"]
    environment = environment_of(database_url=url, lease_seconds=60)
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_worker_whose_processes_keep_dying_is_not_ready_until_one_lives(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    assert check(database_url).returncode == 1
    (place / "armed").touch()
    worker = start("-p", "1", "-t", "1", ACTORS, max_losses=100)
    eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.worker") == 1, within=30)
    assert check(database_url).returncode == 0

    send("killer", ".", program_actors.die, "exit")
    eventually(lambda: query(database_url, "SELECT max(crashes) FROM pipeline.worker") == 3, within=40)

    refused = check(database_url)
    assert (refused.returncode, "their processes die one after the other" in refused.stderr) == (1, True)
    query(database_url, "WITH gone AS (DELETE FROM pipeline.ready RETURNING 1) SELECT count(*) FROM gone")
    (place / "armed").unlink()
    eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.worker WHERE state = 'a'") == 1, within=40)
    assert check(database_url).returncode == 1
    # As if it had lived for that long.
    query(database_url, "UPDATE pipeline.worker SET started_at = started_at - interval '31 s' RETURNING 1")
    accepted = check(database_url)
    assert (accepted.returncode, accepted.stdout.startswith("1 worker is ready on ")) == (0, True)
    worker.signal(signal.SIGTERM)
    worker.end()
