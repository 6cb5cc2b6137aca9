"""What runs where, as everybody can read it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.wait import eventually


def shown(url: str) -> list[dict[str, Any]]:
    """What the view shows of the one worker that is alive."""
    return list(json.loads(str(query(url, "SELECT coalesce(max(tasks::text), '[]') FROM pipeline.worker_status"))))


@pytest.mark.parametrize("actor", [program_actors.hold, program_actors.seize], ids=["waits", "holds the GIL"])
def test_what_runs_is_shown_soon_and_with_its_real_start(
    database_url: str, place: Path, send: Send, start: Start, actor: dramatiq.Actor[..., Any]
) -> None:
    """Also while no thread of the process can say anything. Its own beat is far too rare to be the one who tells."""
    worker = start("-p", "1", "-t", "2", ACTORS, beat_seconds=25)
    task_id = send("a", actor=actor)
    eventually(lambda: begun(place, "a"), within=30)
    noticed = time.time()
    (began,) = (path.stat().st_mtime for path in place.glob("a.[0-9]*"))

    (task,) = eventually(lambda: shown(database_url), within=5)

    assert time.time() - noticed < 3
    assert (task["task_id"], task["actor"], task["thread"]) == (task_id, actor.actor_name, 1)
    started = query(database_url, "SELECT extract(epoch FROM %s::timestamptz)::float8", (task["started_at"],))
    assert abs(float(str(started)) - began) < 1
    worker.signal(signal.SIGTERM)
    worker.says("supervisor.stopping")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 1


def test_what_has_ended_is_shown_no_more(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "2", ACTORS, beat_seconds=25)
    (place / "b").mkdir()
    first, second = send("a"), send("b", "b")
    eventually(lambda: {task["task_id"] for task in shown(database_url)} == {first, second}, within=30)
    assert sorted(task["thread"] for task in shown(database_url)) == [1, 2]

    (place / "go").touch()

    eventually(lambda: [task["task_id"] for task in shown(database_url)] == [second], within=5)
    (place / "b/go").touch()
    eventually(lambda: shown(database_url) == [], within=5)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
