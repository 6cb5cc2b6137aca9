"""What real workers log of tasks, in their own log and in the database: enough, and never a task's arguments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import talking_actors
from tests.fixtures.program import ROOT, Program, environment_of, running
from tests.fixtures.talking_actors import ALL, SECRET
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
MODULE = "tests.fixtures.talking_actors"


@pytest.fixture
def broker(database_url: str) -> Iterator[PostgresBroker]:
    """The senders' side."""
    with closing(PostgresBroker(settings=Settings(database_url=database_url))) as made:
        made.declare_queue("talk")
        yield made


@pytest.fixture
def send_all(broker: PostgresBroker) -> Callable[[], None]:
    """Send a task to each actor, with a secret among its arguments; and one to an actor that nobody knows."""

    def send() -> None:
        for actor in ALL:
            broker.enqueue(actor.message(f"a {SECRET}", second={"card": [SECRET]}))
        unknown = talking_actors.fail.message(SECRET, second=SECRET).copy(actor_name="nobody")
        broker.enqueue(unknown.copy(message_id="00000000-0000-4000-8000-000000000001"))

    return send


def have_ended(rows: Rows) -> bool:
    states = [state for (state,) in rows("SELECT state FROM pipeline.task_status")]
    return len(states) == len(ALL) + 1 and not {"queued", "scheduled", "running"} & set(states)


def stored(rows: Rows) -> list[tuple[str, str]]:
    """List actor and message of all that was logged."""
    return rows(
        "SELECT s.actor, l.message FROM pipeline.task_logs l JOIN pipeline.task_status s ON s.id = l.id ORDER BY s.id, run, line"
    )


@contextmanager
def worker(
    database_url: str, directory: Path, form: str = "json", level: str = "DEBUG", **more: object
) -> Iterator[Program]:
    settings = {"log_format": form, "log_level": level, "task_log_level": level, "beat_seconds": 1, **more}
    with running(
        directory, "worker", MODULE, "-p", "1", "-t", "4", database_url=database_url, listen=False, **settings
    ) as program:
        yield program
        program.signal(signal.SIGTERM)
        assert program.end() == 0


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_anywhere_holds_an_argument(
    database_url: str, tmp_path: Path, send_all: Any, rows: Rows, form: str
) -> None:
    with worker(database_url, tmp_path, form) as program:
        send_all()
        eventually(lambda: have_ended(rows), within=30)
    assert {state for (state,) in rows("SELECT state FROM pipeline.task_status")} >= {"succeeded", "failed"}

    for said in ("Failed to process message fail", "with expected exception", "was skipped", "stumbled", "Traceback"):
        assert said in program.output, said
    assert SECRET not in program.output
    messages = stored(rows)
    assert {actor for actor, _ in messages} >= {"fail_once", "fail", "talk_along"}
    assert SECRET not in str(messages)
    errors = rows("SELECT error_type, error_message, traceback FROM pipeline.attempt_history")
    assert SECRET not in str(errors)


def test_dramatiqs_own_command_stores_lines_too_and_shows_no_argument(
    database_url: str, tmp_path: Path, send_all: Any, rows: Rows
) -> None:
    """It configures logging in its own way, and shows everything with ``-v``."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", MODULE, "-p", "1", "-t", "4", "-v"],
            env=environment_of(database_url=database_url),
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        send_all()
        eventually(lambda: have_ended(rows), within=30)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    text = log.read_text(errors="replace")
    assert "Received message fail_once" in text
    assert SECRET not in text
    messages = stored(rows)
    assert [each for each in messages if each[0] == "talk_along"] == [("talk_along", "before"), ("talk_along", "after")]
    assert SECRET not in str(messages)


def test_every_line_of_a_task_is_bound_to_it_in_json(
    database_url: str, tmp_path: Path, send_all: Any, rows: Rows
) -> None:
    with worker(database_url, tmp_path, level="INFO") as program:
        send_all()
        eventually(lambda: have_ended(rows), within=30)

    lines = [json.loads(line) for line in program.output.splitlines()]
    ids = dict(rows("SELECT actor, task_id::text FROM pipeline.task_status"))
    of_tasks = [line for line in lines if line["logger"].startswith((MODULE, "dramatiq.worker"))]
    assert {line["event"] for line in of_tasks} >= {"attempt 2", "said by structlog", "stumbled", "before", "after"}
    for line in of_tasks:
        assert line["task_id"] == ids[line["actor"]], line
        assert (line["queue"], line["attempt"]) == ("talk", 2 if line["event"] == "attempt 2" else line["attempt"])
    failures = [line for line in of_tasks if line["event"].startswith("Failed to process message")]
    assert {line["actor"] for line in failures} >= {"fail_once", "fail", "fail_in_transaction"}
    asynchronous = [line["event"] for line in of_tasks if line["actor"] == "talk_along"]
    assert asynchronous == ["before", "after"]
    assert not [line for line in lines if line["event"] == "worker.started" and "task_id" in line]


def test_every_line_of_a_task_is_bound_to_it_on_the_console(
    database_url: str, tmp_path: Path, send_all: Any, rows: Rows
) -> None:
    with worker(database_url, tmp_path, "console", level="INFO") as program:
        send_all()
        eventually(lambda: have_ended(rows), within=30)

    ids = dict(rows("SELECT actor, task_id::text FROM pipeline.task_status"))
    lines = program.output.splitlines()
    for actor, event, attempt in (
        ("fail_once", "attempt 2", 2),
        ("talk_along", "before", 1),
        ("talk_along", "after", 1),
    ):
        (line,) = [each for each in lines if f" {event} " in each]
        for bound in (f"actor={actor}", "queue=talk", f"attempt={attempt}", f"task_id={ids[actor]}"):
            assert bound in line


def test_a_kill_loses_the_last_second_at_most(
    database_url: str, tmp_path: Path, broker: PostgresBroker, rows: Rows
) -> None:
    with worker(database_url, tmp_path, level="INFO"):
        broker.enqueue(talking_actors.die_talking.message(str(tmp_path)))
        eventually(lambda: stored(rows) == [("die_talking", "before the end")], within=15)
        (tmp_path / "armed").touch()
        eventually(lambda: ("die_talking", "alive again") in stored(rows), within=30)

    told = rows("SELECT run, attempt, message FROM pipeline.task_logs ORDER BY run, line")
    assert [line for line in told if line[2] != "the last word"] == [(1, 1, "before the end"), (2, 1, "alive again")]


@pytest.mark.parametrize("shown", ["INFO", "ERROR"])
def test_a_worker_that_is_stopped_writes_the_last_lines(
    database_url: str, tmp_path: Path, broker: PostgresBroker, rows: Rows, shown: str
) -> None:
    """Also those that its own log does not show."""
    with worker(database_url, tmp_path, level="INFO", log_level=shown) as program:
        broker.enqueue(talking_actors.talk_until_the_end.message(str(tmp_path)))
        eventually((tmp_path / "talked").exists, within=15)

    assert stored(rows) == [("talk_until_the_end", "just before the end")]
    assert ("just before the end" in program.output) == (shown == "INFO")
