"""Processes of ``pipeline worker`` have counted all they ran when they are gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun, state
from tests.fixtures.database import query
from tests.fixtures.wait import eventually

COUNTED = "SELECT coalesce(sum({}), 0)::int FROM pipeline.stat_total"


def test_a_worker_that_is_stopped_has_counted_its_runs(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    (place / "go").touch()
    worker = start("-p", "2", "-t", "2", ACTORS)
    sent = [send(f"t{number}") for number in range(20)]
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in sent), within=40)

    worker.signal(signal.SIGTERM)
    assert worker.end() == 0

    assert query(database_url, COUNTED.format("succeeded")) == 20
    assert query(database_url, "SELECT sum(runs[17])::int FROM pipeline.stat_total") == 20


def test_a_process_that_is_killed_has_its_lost_run_counted_by_another(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "2", "-t", "1", ACTORS)
    held = send("held")
    (busy,) = eventually(lambda: begun(place, "held"), within=40)

    os.kill(busy, signal.SIGKILL)
    (place / "go").touch()
    eventually(lambda: state(database_url, held) == "succeeded", within=40)

    eventually(lambda: query(database_url, COUNTED.format("lost")) == 1, within=30)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
