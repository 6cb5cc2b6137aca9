"""``pipeline task``."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker, get_broker
from tests.fixtures.broker import working
from tests.fixtures.program import environment_of, running
from tests.fixtures.wait import eventually
from tests.integration.cli.conftest import Run

STEPS = [Event() for _ in range(3)]


@pipeline.actor(actor_name="cli_steps", queue_name="cli_task", max_retries=0, broker=get_broker())
def steps(what: str = "end") -> str:
    """Report progress, step by step as the test lets it."""
    for number, step in enumerate(STEPS):
        step.wait(20)
        percent, done = 30 * (number + 1), 1_000 * (number + 1)
        pipeline.current_task().report(percent=percent, done=done, total=3_000, step="rows", note=f"step [{number}]")
    if what == "fail":
        raise ValueError(what)
    return what


@pytest.fixture
def broker(on_database: Run) -> Iterator[PostgresBroker]:
    for step in STEPS:
        step.clear()
    yield get_broker()
    for step in STEPS:
        step.set()


@pytest.fixture
def send(broker: PostgresBroker) -> Callable[..., str]:
    return lambda *args, **options: str(steps.send_with_options(args=args, **options).message_id)


def look(on_database: Run, task_id: str) -> Any:
    return json.loads(on_database("task", "show", task_id, "--json").output)


def test_show_tells_the_state_the_runs_and_what_was_done(on_database: Run, send: Callable[..., str]) -> None:
    task_id = send(delay=60_000)
    on_database("task", "snooze", task_id, "2h", "--who", "ada", "--reason", "not yet")
    on_database("task", "cancel", task_id, "--who", "bob", "--reason", "not at all")

    shown = on_database("task", "show", task_id).output
    assert all(word in shown for word in (task_id, "cli_steps", "cancelled", "snooze", "ada", "not yet", "bob"))
    assert max(map(len, shown.splitlines())) <= 80
    told = look(on_database, task_id)
    assert [(entry["action"], entry["who"], entry["reason"]) for entry in told["audit"]] == [
        ("snooze", "ada", "not yet"),
        ("cancel", "bob", "not at all"),
    ]
    assert [run["outcome"] for run in told["runs"]] == ["c"]
    assert on_database("status", task_id).output == shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("snooze", "30m"), {"state": "scheduled"}),
        (("reschedule", "2100-01-01T00:00+00:00"), {"eta": "2100-01-01T00:00:00+00:00"}),
        (("reprioritise", "-5"), {"priority": -5}),
        (("move", "other"), {"queue": "other"}),
        (("cancel",), {"state": "cancelled"}),
    ],
)
def test_each_command_changes_its_task(
    on_database: Run, send: Callable[..., str], command: tuple[str, ...], expected: dict[str, Any]
) -> None:
    task_id = send()
    get_broker().sender.ensure_lanes([("other", 0)])

    name, *arguments = command
    result = on_database("task", name, task_id, *arguments, "--reason", "so")

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"The task {task_id} ")
    told = look(on_database, task_id)
    assert {key: told[key] for key in expected} == expected
    assert [entry["reason"] for entry in told["audit"]] == ["so"]


def test_all_that_match_are_counted_and_cancelled(on_database: Run, send: Callable[..., str]) -> None:
    ids = [send(), send(delay=60_000)]

    counted = on_database("task", "cancel", "--queue", "cli_task", "--state", "waiting", "--dry-run")
    assert counted.output == "2 waiting tasks would be cancelled, 0 running ones would be asked to end.\n"
    assert look(on_database, ids[0])["state"] == "queued"

    done = on_database("task", "cancel", "--actor", "cli_steps", "--reason", "enough")
    assert done.output == "2 waiting tasks are cancelled, 0 running ones were asked to end.\n"
    assert [look(on_database, task_id)["state"] for task_id in ids] == ["cancelled", "cancelled"]


def test_a_running_task_is_asked_to_end(on_database: Run, broker: PostgresBroker, send: Callable[..., str]) -> None:
    task_id = send()
    with working(broker, threads=1):
        eventually(lambda: broker.interrupter.running())
        result = on_database("task", "cancel", task_id)
        assert result.output == f"The task {task_id} runs and was asked to end.\n"
        for step in STEPS:
            step.set()
        eventually(lambda: look(on_database, task_id)["state"] == "cancelled", within=10)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--dry-run",), ("ID", "--queue", "cli_task"), ("ID", "--dry-run"), ("--queue", "cli_task", "--whole")],
)
def test_it_must_be_clear_which_tasks_are_cancelled(
    on_database: Run, send: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    task_id = send()

    result = on_database("task", "cancel", *(task_id if each == "ID" else each for each in arguments))

    assert result.exit_code == 2
    assert look(on_database, task_id)["state"] == "queued"


def test_a_time_without_a_zone_is_one_of_the_terminal(
    on_database: Run, send: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    task_id = send()
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        on_database("task", "reschedule", task_id, "2100-01-01T05:30")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert look(on_database, task_id)["eta"].startswith("2100-01-01T00:00")


def test_cancelled_tasks_are_retried_together(on_database: Run, send: Callable[..., str]) -> None:
    ids = [send(), send()]
    assert on_database("task", "cancel", *ids).exit_code == 0

    assert on_database("task", "retry", *ids).exit_code == 0

    assert [look(on_database, task_id)["state"] for task_id in ids] == ["queued", "queued"]


def test_a_clone_has_what_was_asked_for(on_database: Run, send: Callable[..., str]) -> None:
    task_id = send("one", priority=3)

    result = on_database("task", "clone", task_id, "--args", '["two"]', "--priority", "-1", "--delay", "1h")

    told = look(on_database, result.output.strip())
    assert (told["args"], told["priority"], told["state"]) == ('["two"]', -1, "scheduled")


def test_what_is_wrong_with_one_does_not_keep_the_others_from_it(on_database: Run, send: Callable[..., str]) -> None:
    first, last = send(), send()
    unknown = "00000000-0000-4000-8000-000000000000"

    result = on_database("task", "cancel", first, unknown, last)

    assert result.exit_code == 5
    assert f"Error: There is no task {unknown}\n" in result.output
    assert [look(on_database, task_id)["state"] for task_id in (first, last)] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    "command",
    [
        ("show",),
        ("watch",),
        ("cancel",),
        ("retry",),
        ("snooze", "1m"),
        ("reschedule", "2100-01-01"),
        ("reprioritise", "1"),
        ("move", "cli_task"),
        ("clone",),
    ],
)
def test_an_unknown_task_is_an_error(on_database: Run, broker: PostgresBroker, command: tuple[str, ...]) -> None:
    name, *arguments = command
    result = on_database("task", name, "abc", *arguments)

    assert (result.exit_code, result.output) == (5, "Error: There is no task abc\n")


def test_a_conflict_names_the_state(on_database: Run, send: Callable[..., str]) -> None:
    task_id = send()
    on_database("task", "cancel", task_id)

    result = on_database("task", "snooze", task_id, "1m")

    assert (result.exit_code, "is cancelled; only a waiting task" in result.output) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("snooze", "0s"),
        ("snooze", "-5m"),
        ("reschedule", "tomorrow"),
        ("reprioritise", "40000"),
        ("reprioritise", "high"),
        ("clone", "--args", "{}"),
        ("clone", "--args", "[1"),
        ("clone", "--kwargs", "[]"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    on_database: Run, send: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    task_id = send()
    name, *more = arguments

    assert on_database("task", name, task_id, *more).exit_code == 2

    assert look(on_database, task_id)["audit"] == []


# --- watch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "status", "state"), [("end", 0, "succeeded"), ("fail", 1, "failed")])
def test_watch_prints_a_line_for_each_change(
    broker: PostgresBroker,
    send: Callable[..., str],
    database_url: str,
    tmp_path: Path,
    what: str,
    status: int,
    state: str,
) -> None:
    task_id = send(what)
    with running(tmp_path, "task", "watch", task_id, database_url=database_url) as program:
        program.says("queued 0%")
        with working(broker, threads=1):
            program.says("running 0%")
            for number, step in enumerate(STEPS):
                step.set()
                if number < 2:
                    program.says(f"running {30 * (number + 1)}% rows {number + 1},000/3,000 step [{number}]")
                if number == 1:
                    program.says("step [1] until ")
            assert program.end() == status

    lines = [line.split(" ", 1)[1] for line in program.output.splitlines()]
    assert lines[-1 - status].startswith(state)
    assert len(set(lines)) == len(lines)
    assert (program.output.endswith("ValueError: fail\n")) == (status == 1)


@contextmanager
def on_terminal(*arguments: str, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """Run ``pipeline ARGUMENTS`` on a terminal of its own; tell what it has drawn so far."""
    ours, theirs = pty.openpty()
    variables = environment_of(**settings) | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        # A test run in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    drawn = bytearray()

    def output() -> str:
        try:
            while piece := os.read(ours, 65_536):
                drawn.extend(piece)
        except OSError:  # nothing more so far, or the other end is closed
            pass
        return drawn.decode(errors="replace")

    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def test_watch_draws_a_bar_on_a_terminal(broker: PostgresBroker, send: Callable[..., str], database_url: str) -> None:
    task_id = send()
    with on_terminal("task", "watch", task_id, database_url=database_url) as (process, output):
        eventually(lambda: "queued" in output(), within=30)
        with working(broker, threads=1):
            STEPS[0].set()
            eventually(lambda: "30%" in output() and "running rows 1,000/3,000 step [0]" in output(), within=10)
            for step in STEPS:
                step.set()
            eventually(lambda: process.poll() is not None and output(), within=30)

        assert process.returncode == 0
        assert "━" in output()
        assert "100%" in output()
        assert "succeeded" in output()
        assert output().endswith("\x1b[?25h")  # the cursor is there again


def test_ctrl_c_leaves_the_watch_and_the_task_goes_on(
    broker: PostgresBroker, send: Callable[..., str], database_url: str, on_database: Run
) -> None:
    task_id = send()
    with on_terminal("task", "watch", task_id, database_url=database_url) as (process, output):
        eventually(lambda: "queued" in output(), within=30)
        process.send_signal(signal.SIGINT)
        eventually(lambda: process.poll() is not None, within=30)

        assert process.returncode == 1
        assert "the task goes on" in output()
        assert "\x1b[?25h" in output()
        assert "Traceback" not in output()
    assert look(on_database, task_id)["state"] == "queued"


def test_show_tells_of_each_run_where_it_ran_how_long_it_waited_and_took_and_what_went_wrong(
    on_database: Run, broker: PostgresBroker, send: Callable[..., str], ask: Any
) -> None:
    task_id = send("fail")
    for step in STEPS:
        step.set()
    with working(broker, threads=1):
        eventually(lambda: ask("SELECT state FROM pipeline.task_status WHERE task_id = %s", task_id) == "failed")

    (run,) = look(on_database, task_id)["runs"]
    shown = on_database("task", "show", task_id).output

    assert (run["host"], run["pid"], run["error_type"]) == (socket.gethostname(), os.getpid(), "ValueError")
    assert "raise ValueError(what)" in run["traceback"]
    assert 0 <= run["run_seconds"] < 10
    headers, row = shown.partition("\nruns")[2].splitlines()[1:3]
    assert headers.split() == ["run", "attempt", "outcome", "worker", "waited", "ran", "finished", "error"]
    assert row.split()[:3] == ["1", "1", "failed"]
    assert f"{run['worker_id']}@" in row
    assert f"{run['run_seconds']:.3f} s" in row
    assert "ValueError" in shown
    assert max(map(len, shown.splitlines())) <= 80
