"""``pipeline task logs``."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from threading import Event

import pytest

import pipeline
from pipeline import PostgresBroker, get_broker
from tests.fixtures.broker import working
from tests.fixtures.program import running
from tests.integration.cli.conftest import Run

GATE = Event()
logger = logging.getLogger("somebodys.actors")


@pipeline.actor(
    actor_name="cli_talk", queue_name="cli", max_retries=1, min_backoff=1, max_backoff=1, broker=get_broker()
)
def talk() -> None:
    """Talk, fail the first time, and wait until the test lets go."""
    attempt = pipeline.current_task().attempt
    logger.info("attempt %d", attempt)
    if attempt == 1:
        logger.error("no\x1b[2J paper")
        raise ValueError("no paper\nat all")
    GATE.wait(20)
    logger.warning("two\nlines")


@pytest.fixture
def broker(on_database: Run) -> PostgresBroker:
    GATE.clear()
    return get_broker()


@pytest.fixture
def task_id(broker: PostgresBroker) -> str:
    """A task that has ended."""
    GATE.set()
    message = talk.send()
    with working(broker, threads=1):
        broker.join("cli", timeout=20_000)
    return str(message.message_id)


def told(output: str) -> list[str]:
    """The lines without their times."""
    return [line[24:] if line[:2] == "20" else line for line in output.splitlines()]


def test_lines_are_shown_run_by_run(on_database: Run, task_id: str) -> None:
    result = on_database("task", "logs", task_id)

    assert result.exit_code == 0, result.output
    assert told(result.output) == [
        "run 1, attempt 1: retry, ValueError: no paper",
        "info     somebodys.actors: attempt 1",
        "error    somebodys.actors: no\N{REPLACEMENT CHARACTER}[2J paper",
        "run 2, attempt 2: succeeded",
        "info     somebodys.actors: attempt 2",
        "warning  somebodys.actors: two",
        "lines",
    ]


def test_one_run_or_a_level_can_be_asked_for(on_database: Run, task_id: str) -> None:
    of_run = told(on_database("task", "logs", task_id, "--run", "2").output)
    loud = told(on_database("task", "logs", task_id, "--level", "WARNING").output)

    assert of_run[0].startswith("run 2")
    assert "attempt 1" not in str(of_run[1:])
    assert [line[:7] for line in loud if "somebodys" in line] == ["error  ", "warning"]


def test_programs_get_one_object_per_line(on_database: Run, task_id: str) -> None:
    lines = [json.loads(line) for line in on_database("task", "logs", task_id, "--json").stdout.splitlines()]

    assert [(line["run"], line["attempt"], line["line"], line["level"], line["message"]) for line in lines] == [
        (1, 1, 1, "info", "attempt 1"),
        (1, 1, 2, "error", "no\x1b[2J paper"),
        (2, 2, 1, "info", "attempt 2"),
        (2, 2, 2, "warning", "two\nlines"),
    ]
    assert all(line["logger"] == "somebodys.actors" and line["at"] for line in lines)


def test_a_task_is_followed_to_its_end(broker: PostgresBroker, database_url: str, tmp_path: Path) -> None:
    message_id = str(talk.send().message_id)
    arguments = ("task", "logs", message_id, "--follow")
    with running(tmp_path, *arguments, database_url=database_url) as following, working(broker, threads=1):
        following.says("attempt 2")
        assert following.is_running
        GATE.set()
        assert following.end() == 0

    lines = told(following.output)
    assert lines[0].startswith("run 1, attempt 1")
    assert lines[-4].startswith("run 2, attempt 2")
    assert lines[-3:] == ["info     somebodys.actors: attempt 2", "warning  somebodys.actors: two", "lines"]


def test_whoever_follows_may_leave(broker: PostgresBroker, database_url: str, tmp_path: Path) -> None:
    message_id = str(talk.send().message_id)
    arguments = ("task", "logs", message_id, "--follow", "--json")
    with running(tmp_path, *arguments, database_url=database_url) as following, working(broker, threads=1):
        following.says('"message": "attempt 2"')
        following.signal(signal.SIGINT)
        assert following.end() == 0
        GATE.set()

    assert [json.loads(line)["line"] for line in following.output.splitlines()] == [1, 2, 1]


def test_a_task_that_logged_nothing_says_so(on_database: Run, broker: PostgresBroker) -> None:
    task_id = talk.send().message_id

    result = on_database("task", "logs", task_id)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing was logged.\n")
    assert on_database("task", "logs", task_id, "--json").output == ""


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "abc"])
def test_an_unknown_task_is_an_error(on_database: Run, task_id: str) -> None:
    result = on_database("task", "logs", task_id)

    assert (result.exit_code, result.output) == (5, f"Error: There is no task {task_id}\n")


@pytest.mark.parametrize("wrong", [("--run", "0"), ("--run", "x"), ("--level", "loud"), ("--run", "99999999999")])
def test_wrong_options_are_refused(on_database: Run, task_id: str, wrong: tuple[str, str]) -> None:
    result = on_database("task", "logs", task_id, *wrong)

    assert result.exit_code == 2
    assert wrong[0] in result.output
