"""What becomes of tasks that run when ``pipeline worker`` is asked to stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun, history, state
from tests.fixtures import program_actors
from tests.fixtures.program import is_alive
from tests.fixtures.wait import eventually

INTERRUPTED = [0, "interrupted", None, None]
SHUT_DOWN = [0, "interrupted", "Shutdown", "shutdown"]
SUCCEEDED = [1, "succeeded", None, None]


def run_again(url: str, place: Path, start: Start, task_id: str) -> None:
    """Let a task run again: its first attempt."""
    before = history(url, task_id)
    (place / "go").touch()
    again = start("-p", "1", "-t", "1", ACTORS)
    eventually(lambda: state(url, task_id) == "succeeded", within=30)
    assert history(url, task_id) == [*before, SUCCEEDED]
    again.signal(signal.SIGTERM)
    assert again.end() == 0


def test_shutdown_is_raised_in_time_for_a_task_to_clean_up(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    worker = start("-p", "1", "-t", "2", ACTORS, stop_seconds=30, shutdown_notice_seconds=1)
    task_id = send("a", actor=program_actors.tidy)
    eventually(lambda: begun(place, "a"), within=30)
    began = time.monotonic()

    worker.signal(signal.SIGTERM)

    assert worker.end(within=20) == 0
    assert 1 <= time.monotonic() - began < 10  # not before the notice, and long before the end of its time
    assert (place / "a.tidied").exists()
    assert history(database_url, task_id) == [SHUT_DOWN]
    run_again(database_url, place, start, task_id)


@pytest.mark.parametrize(
    ("actor", "status"), [(program_actors.insist, 0), (program_actors.seize, 1)], ids=["ignores it", "holds the GIL"]
)
def test_a_task_that_does_not_end_in_time_runs_again_uncounted(
    database_url: str, place: Path, send: Send, start: Start, actor: dramatiq.Actor[..., Any], status: int
) -> None:
    """Its process gives it back if it can, and else is killed by its master a few seconds later."""
    worker = start("-p", "1", "-t", "1", ACTORS, stop_seconds=1.5, shutdown_notice_seconds=0.5)
    task_id = send("a", actor=actor)
    (victim,) = eventually(lambda: begun(place, "a"), within=30)
    waiting = send("b")
    began = time.monotonic()

    worker.signal(signal.SIGTERM)

    assert worker.end(within=20) == status
    assert 1.5 <= time.monotonic() - began < 1.5 + 5 + 3
    eventually(lambda: not is_alive(victim))
    assert history(database_url, task_id) == [INTERRUPTED]
    assert all(entry == INTERRUPTED for entry in history(database_url, waiting))
    run_again(database_url, place, start, task_id)


def test_a_task_that_asked_to_be_told_is_told_at_once(database_url: str, place: Path, send: Send, start: Start) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS, stop_seconds=40)
    task_id = send("a", actor=program_actors.tidy_at_once)
    eventually(lambda: begun(place, "a"), within=30)
    began = time.monotonic()

    worker.signal(signal.SIGTERM)

    assert worker.end(within=20) == 0
    assert time.monotonic() - began < 10
    assert history(database_url, task_id) == [SHUT_DOWN]


def test_tasks_have_all_of_their_time_whatever_the_others_do(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    """Waiting for one thread after the other must not shorten the time of the last one."""
    worker = start("-p", "1", "-t", "3", ACTORS, stop_seconds=6, shutdown_notice_seconds=6)
    ids = {name: send(name, name) for name in "abc"}
    for name in ids:
        (place / name).mkdir()
    eventually(lambda: all(begun(place / name, name) for name in ids), within=30)
    worker.signal(signal.SIGTERM)
    began = time.monotonic()

    for name, second in (("a", 2.5), ("b", 4.0), ("c", 5.0)):
        eventually(lambda: time.monotonic() - began > second, within=10)  # noqa: B023 - called at once
        (place / name / "go").touch()

    assert worker.end() == 0
    assert [state(database_url, task_id) for task_id in ids.values()] == ["succeeded"] * 3


@pytest.mark.parametrize("actor", [program_actors.hold, program_actors.seize], ids=["waits", "holds the GIL"])
def test_a_second_signal_ends_everything_at_once_uncounted(
    database_url: str, place: Path, send: Send, start: Start, actor: dramatiq.Actor[..., Any]
) -> None:
    worker = start("-p", "1", "-t", "1", ACTORS)
    task_id = send("a", actor=actor)
    eventually(lambda: begun(place, "a"), within=30)
    worker.signal(signal.SIGINT)
    worker.says("supervisor.stopping")

    worker.signal(signal.SIGINT)

    assert worker.end(within=5) == 1
    assert history(database_url, task_id) == [INTERRUPTED]
    run_again(database_url, place, start, task_id)
