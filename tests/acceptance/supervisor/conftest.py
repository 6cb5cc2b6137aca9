"""``pipeline worker`` on the test's database, and tasks for it that a test holds in its hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.program import Program, running

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

        def enqueue(
            name: str, below: str = ".", actor: dramatiq.Actor[..., Any] = program_actors.hold, *more: object
        ) -> str:
            message = actor.message(str(place / below), name, *more)
            return str(broker.enqueue(message).message_id)

        yield enqueue


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start ``pipeline worker`` on the test's database, once."""
    programs: list[Any] = []

    def begin(*arguments: str, **settings: object) -> Program:
        context = running(tmp_path, "worker", *arguments, database_url=database_url, **(UNHURRIED | settings))
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


HISTORY = (
    "SELECT coalesce(json_agg(json_build_array(attempt, outcome, error_type, reason) ORDER BY run), '[]')::text FROM"
)
HISTORY += " pipeline.attempt_history WHERE task_id = %s"


def history(url: str, task_id: str) -> list[list[Any]]:
    return list(json.loads(str(query(url, HISTORY, (task_id,)))))
