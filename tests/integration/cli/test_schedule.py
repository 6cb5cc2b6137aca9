"""``pipeline schedule``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import pipeline
from pipeline import get_broker
from scheduler import Schedule
from scheduler.declare import sync
from tests.integration.cli.conftest import Run


@pipeline.actor(actor_name="cli_report", queue_name="cli_reports", max_retries=0, broker=get_broker())
def report(year: int, month: int = 1) -> None: ...


ADD = ("schedule", "add", "nightly", "cli_report", "--args", "[2026]")
NIGHTLY = (*ADD, "--cron", "0 2 * * *", "--timezone", "Europe/Berlin")


@pytest.fixture
def look(on_database: Run) -> Callable[..., Any]:
    return lambda name="nightly": json.loads(on_database("schedule", "show", name, "--json").output)


def test_a_schedule_is_made_shown_changed_paused_resumed_and_removed(
    on_database: Run, look: Callable[..., Any], rows: Any
) -> None:
    options = ("--tag", "a", "--tag", "b", "--jitter", "5m", "--missed", "all", "--max-age", "1d", "--overlap", "queue")
    made = on_database(*NIGHTLY, *options, "--priority", "-3", "--description", "every night", "--who", "ada")
    assert made.exit_code == 0, made.output
    assert made.output.startswith("The schedule nightly is made; it is due next at 20")
    assert "T02:00:00+0" in made.output
    told = look()
    assert {name: told[name] for name in ("expression", "timezone", "args", "tags", "jitter_seconds", "max_age_seconds")} == {
        "expression": "0 2 * * *", "timezone": "Europe/Berlin", "args": [2026], "tags": ["a", "b"], "jitter_seconds": 300,
        "max_age_seconds": 86_400,
    }  # fmt: skip
    assert (told["priority"], told["version"], told["updated_by"], told["firings"]) == (-3, 1, "ada", [])

    edited = on_database(
        "schedule", "edit", "nightly", "--cron", "0 3 * * *", "--clear", "max-age", "--clear", "tags", "--version", "1"
    )
    assert edited.output.startswith("The schedule nightly has the version 2; it is due next at ")
    told = look()
    assert (told["expression"], told["max_age_seconds"], told["tags"], told["priority"]) == ("0 3 * * *", None, [], -3)

    assert on_database("schedule", "pause", "nightly", "--reason", "so").output == "The schedule nightly is paused.\n"
    assert (look()["pause_reason"], look()["next_due_at"]) == ("so", None)
    resumed = on_database("schedule", "resume", "nightly").output
    assert resumed.startswith("The schedule nightly goes on; it is due next at ")
    assert on_database("schedule", "remove", "nightly").output == "The schedule nightly is removed.\n"
    assert on_database("schedule", "list").output == "schedules: none\n"
    assert rows("SELECT action, source FROM pipeline.audit_log WHERE schedule = 'nightly' ORDER BY audit_id") == [
        (action, "cli") for action in ("add", "edit", "pause", "resume", "remove")
    ]


def test_the_list_tells_next_and_last_in_the_zone_of_each(on_database: Run, rows: Any) -> None:
    on_database(*NIGHTLY)
    on_database("schedule", "add", "often", "cli_report", "--args", "[1]", "--every", "15m", "--paused")
    rows(
        "INSERT INTO pipeline.firing (schedule_id, schedule, due_at, message_id, outcome, fired_by)"
        " SELECT schedule_id, name, '2026-07-01 00:00+00', gen_random_uuid(), 'f', 'here:1' FROM pipeline.schedule"
        " WHERE name = 'nightly'"
    )

    shown = on_database("schedule", "list").output
    assert max(map(len, shown.splitlines())) <= 80
    for text in (
        "nightly",
        "0 2 * * *",
        "Europe/Berlin",
        "02:00 CE",
        "2026-07-01 02:00",
        "gone",
        "often",
        "every 15m",
        "paused",
    ):
        assert text in shown
    nightly, often = json.loads(on_database("schedule", "list", "--json").output)
    assert nightly["next_due_at"] > nightly["done_until"]
    assert (often["state"], often["next_due_at"]) == ("paused", None)


def test_a_schedule_that_somebody_wrote_by_sql_does_not_hide_the_others(on_database: Run, rows: Any) -> None:
    on_database(*NIGHTLY)
    on_database("schedule", "add", "other", "cli_report", "--args", "[1]", "--every", "15m")
    rows("UPDATE pipeline.schedule SET timezone = 'Europe/Berln' WHERE name = 'nightly'")

    assert 'no time zone "Europe/Berln"' in " ".join(on_database("schedule", "list").output.split())
    nightly, other = json.loads(on_database("schedule", "list", "--json").output)
    assert ("did you mean Europe/Berlin?" in nightly["problem"], nightly["next_due_at"]) == (True, None)
    assert (other["problem"], other["next_due_at"] > other["done_until"]) == (None, True)
    assert "Europe/Berln" in on_database("schedule", "show", "nightly").output
    assert on_database("schedule", "edit", "nightly", "--timezone", "Europe/Berlin").exit_code == 0


def test_a_run_prints_its_task_and_is_part_of_the_history(on_database: Run, look: Callable[..., Any]) -> None:
    on_database(*NIGHTLY, "--overlap", "skip")

    task_id = on_database("schedule", "run", "nightly", "--who", "ada").output.strip()

    (firing,) = look()["firings"]
    assert (firing["task_id"], firing["state"], firing["is_manual"]) == (task_id, "queued", True)
    again = on_database("schedule", "run", "nightly")
    assert (again.exit_code, f"has a task that has not ended, {task_id}" in again.output) == (1, True)
    shown = on_database("schedule", "show", "nightly", "--firings", "5").output
    assert max(map(len, shown.splitlines())) <= 80
    assert all(text in shown for text in (task_id, "queued", "by ada", "0 2 * * *"))
    assert "firings: none" in on_database("schedule", "show", "nightly", "--firings", "0").output


def test_a_schedule_is_previewed_with_what_the_clock_does(on_database: Run) -> None:
    on_database(*ADD, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--paused")

    shown = on_database("schedule", "next", "nightly", "-n", "3", "--after", "2027-03-26T12:00+00:00").output

    assert max(map(len, shown.splitlines())) <= 80
    assert [" ".join(line.split()) for line in shown.splitlines() if "2027" in line] == [
        "Sat 2027-03-27 02:30:00 CET 2027-03-27 01:30:00",
        "Sun 2027-03-28 03:00:00 CEST 2027-03-28 01:00:00 the clock jumps over its time",
        "Mon 2027-03-29 02:30:00 CEST 2027-03-29 00:30:00",
    ]


def test_a_timing_is_previewed_without_a_database(pipeline_command: Run) -> None:
    timing = ("--cron", "*/30 2 * * *", "--timezone", "Europe/Berlin", "--after", "2026-10-25T00:00+02:00", "-n", "4")

    told = json.loads(pipeline_command("schedule", "next", *timing, "--json").output)

    assert [(each["local"], each["mark"]) for each in told] == [
        ("2026-10-25T02:00:00+02:00", "fold first"),
        ("2026-10-25T02:30:00+02:00", "fold first"),
        ("2026-10-25T02:00:00+01:00", "fold second"),
        ("2026-10-25T02:30:00+01:00", "fold second"),
    ]
    assert "comes twice, the second time" in pipeline_command("schedule", "next", *timing).output


@pytest.mark.parametrize(
    ("timing", "complaint"),
    [
        (("--cron", "0 25 * * *"), "expression: hour: 25 is above 23"),
        (("--cron", "0 2 * * fun"), "expression: day of week: "),
        (("--cron", "0 2 * * *", "--timezone", "Europe/Berln"), "timezone: there is no time zone \"Europe/Berln\"; did you mean Europe/Berlin?"),
        (("--every", "often"), "expression: \"often\" is not an interval such as 90s, 15m, 2h or 1d"),
        (("--cron", "0 2 * * *", "--every", "1h"), "every: it is due by one of"),
        (("--timezone", "UTC"), "expression: say when it is due by one of"),
    ],
)  # fmt: skip
def test_a_wrong_timing_is_told_by_its_field(pipeline_command: Run, timing: tuple[str, ...], complaint: str) -> None:
    result = pipeline_command("schedule", "next", *timing)

    assert (result.exit_code, complaint in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("next",),
        ("next", "nightly", "--cron", "* * * * *"),
        ("edit", "nightly"),
        ("add", "x", "y", "--args", "{}"),
        ("list", "x"),
    ],
)
def test_what_is_asked_for_must_be_clear(pipeline_command: Run, arguments: tuple[str, ...]) -> None:
    result = pipeline_command("schedule", *arguments)

    assert (result.exit_code, "Usage: " in result.output) == (2, True)


def test_help_needs_no_database(pipeline_command: Run) -> None:
    assert pipeline_command("schedule", "add", "--help").exit_code == 0


def test_what_makes_no_sense_is_told_and_nothing_is_stored(on_database: Run) -> None:
    wrong = {
        ("add", "nightly", "cli_reprt", "--every", "1h"): 'actor: this program has no actor "cli_reprt"; did you mean cli_report',
        ("add", "nightly", "cli_report", "--every", "1h"): "args: cli_report(year, month=1) cannot be called so: missing a required argument: 'year'",
        ("add", "nightly", "cli_report", "--args", "[1]", "--every", "1h", "--kwargs", '{"mnth": 1}'): "unexpected keyword argument 'mnth'",
        ("add", "nightly", "cli_report", "--args", "[1]", "--every", "1h", "--priority", "99999"): "priority: 99999 is not between",
        ("add", "nightly", "cli_report", "--args", "[1]", "--at", "2020-01-01T00:00"): "expression: it is over",
        ("add", "1st", "cli_report", "--args", "[1]", "--every", "1h"): "name: '1st'",
    }  # fmt: skip
    for arguments, complaint in wrong.items():
        result = on_database("schedule", *arguments)
        assert (result.exit_code, complaint in result.output) == (2, True), result.output

    assert json.loads(on_database("schedule", "list", "--json").output) == []


def test_an_unknown_schedule_and_a_conflict_have_their_exit_status(on_database: Run) -> None:
    for command in (("show",), ("next",), ("run",), ("pause",), ("resume",), ("remove",), ("edit", "--jitter", "1m")):
        name, *options = command
        result = on_database("schedule", name, "nothing", *options)
        assert (result.exit_code, result.output) == (5, "Error: There is no schedule nothing\n")

    on_database(*NIGHTLY)
    again = on_database(*NIGHTLY)
    assert (again.exit_code, again.output) == (1, "Error: The schedule nightly exists already\n")
    late = on_database("schedule", "edit", "nightly", "--jitter", "1m", "--version", "7")
    assert (late.exit_code, "has the version 1, not 7" in late.output) == (1, True)


def test_what_code_declares_is_changed_there(
    on_database: Run, configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("cli_schedules")
    module.SCHEDULES = [Schedule("nightly", actor=report, args=[2026], cron="0 2 * * *")]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli_schedules", module)
    configured(schedules="cli_schedules")
    sync()

    for command in (("edit", "--jitter", "1m"), ("remove",)):
        name, *options = command
        result = on_database("schedule", name, "nightly", *options)
        assert (result.exit_code, "is declared in the module cli_schedules" in result.output) == (1, True)
    assert on_database("schedule", "pause", "nightly").exit_code == 0
    assert on_database("schedule", "run", "nightly").exit_code == 0
    assert on_database("schedule", "remove", "nightly", "--force").exit_code == 0


def test_a_module_that_cannot_be_imported_is_named(on_database: Run, configured: Callable[..., None]) -> None:
    configured(schedules="no_such_module")

    result = on_database(*NIGHTLY)

    assert (result.exit_code, "There is no module no_such_module" in result.output) == (2, True)
