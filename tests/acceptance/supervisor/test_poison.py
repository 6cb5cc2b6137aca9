"""Tasks that kill the process they run in, beside innocent ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.supervisor.conftest import ACTORS, Send, Start, begun, history, state
from tests.fixtures import program_actors
from tests.fixtures.program import children_of, is_alive
from tests.fixtures.wait import eventually

LOST = [0, "lost", "WorkerLost", "lost"]
POISON = [0, "failed", "WorkerLost", "poison"]
SUCCEEDED = [1, "succeeded", None, None]


def runs(url: str, task_id: str) -> list[list[Any]]:
    """How its runs ended, without those that never began."""
    return [entry for entry in history(url, task_id) if entry[1] != "interrupted"]


@pytest.mark.parametrize("how", program_actors.DEATHS)
def test_a_task_that_kills_its_process_fails_with_the_third_loss_and_its_neighbours_succeed(
    database_url: str, place: Path, send: Send, start: Start, how: str
) -> None:
    worker = start("-p", "1", "-t", "4", ACTORS)
    neighbours = [send(name) for name in "abc"]
    killer = send("killer", ".", program_actors.die, how)
    eventually(lambda: all(begun(place, name) for name in ("a", "b", "c", "killer")), within=30)
    (place / "free").mkdir()
    (place / "free" / "go").touch()
    waiting = [send(f"w{number}", "free") for number in range(20)]

    (place / "armed").touch()
    eventually(lambda: history(database_url, killer).count(LOST) == 2, within=40)
    (place / "go").touch()

    ids = [*neighbours, *waiting]
    eventually(lambda: state(database_url, killer) == "failed", within=40)
    eventually(lambda: all(state(database_url, task_id) == "succeeded" for task_id in ids), within=40)
    assert history(database_url, killer) == [LOST, LOST, POISON]
    for task_id in ids:
        *before, last = runs(database_url, task_id)
        assert (last, before) == (SUCCEEDED, [LOST] * len(before))
        assert len(before) <= 2
    assert all(LOST in history(database_url, task_id) for task_id in neighbours)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_each_of_two_killers_dies_alone_and_the_one_between_them_lives(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    """All three have been lost twice, in company, when one process gets them for their last chance."""
    worker = start("-p", "1", "-t", "3", ACTORS)
    killers = [send("first", ".", program_actors.die, "out of memory")]
    innocent = send("innocent")
    killers.append(send("second", ".", program_actors.die, "exit"))
    for times in (1, 2):
        eventually(lambda: all(len(begun(place, name)) == times for name in ("first", "innocent", "second")), within=40)  # noqa: B023
        (victim,) = (pid for pid in children_of(worker.process.pid) if is_alive(pid))
        os.kill(victim, signal.SIGKILL)
    (place / "go").touch()
    (place / "armed").touch()

    eventually(lambda: [state(database_url, task_id) for task_id in killers] == ["failed", "failed"], within=60)
    eventually(lambda: state(database_url, innocent) == "succeeded", within=20)
    assert [runs(database_url, task_id) for task_id in killers] == [[LOST, LOST, POISON]] * 2
    assert runs(database_url, innocent) == [LOST, LOST, SUCCEEDED]
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_what_waits_in_a_process_that_dies_has_lost_nothing(
    database_url: str, place: Path, send: Send, start: Start
) -> None:
    """Two that were lost once before wait for their last chance while a third one runs; no thread has touched them."""
    worker = start("-p", "1", "-t", "3", ACTORS, max_losses=2)
    ids = [send(name) for name in "abc"]
    eventually(lambda: all(len(begun(place, name)) == 1 for name in "abc"), within=40)
    for times in (1, 2):
        (victim,) = (pid for pid in children_of(worker.process.pid) if is_alive(pid))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: sum(len(begun(place, name)) for name in "abc") == 3 + times, within=40)  # noqa: B023

    (place / "go").touch()
    eventually(
        lambda: sorted(str(state(database_url, each)) for each in ids) == ["failed", "succeeded", "succeeded"],
        within=60,
    )
    for task_id in ids:
        assert runs(database_url, task_id) in ([LOST, POISON], [LOST, SUCCEEDED])
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
