"""``pipeline audit``, and the timeline in ``pipeline task show``."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import pipeline
from pipeline import get_broker
from tests.integration.cli.conftest import Run


@pipeline.actor(actor_name="cli_audited", queue_name="cli_audit", max_retries=0, broker=get_broker())
def audited() -> None:
    """Do nothing."""


@pytest.fixture
def send(on_database: Run) -> Callable[..., str]:
    return lambda **options: str(audited.send_with_options(**options).message_id)


def entries(on_database: Run, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(on_database("audit", "--json", *arguments).output)
    return found


def test_commands_from_the_shell_are_listed_with_their_source_and_what_they_changed(
    on_database: Run, send: Callable[..., str]
) -> None:
    task_id = send()
    on_database("task", "reprioritise", task_id, "7", "--who", "ada", "--reason", "not so urgent")
    on_database("queue", "pause", "cli_audit", "--who", "bob")
    on_database("repair", "ready", "--who", "eve", "--reason", "restored")

    repaired, paused, changed = entries(on_database)
    assert {each["source"] for each in (repaired, paused, changed)} == {"cli"}
    assert (changed["action"], changed["task_id"], changed["old_value"], changed["new_value"]) == (
        "reprioritise",
        task_id,
        {"priority": 0},
        {"priority": 7},
    )
    assert (paused["queue"], paused["who"]) == ("cli_audit", "bob")
    assert (repaired["action"], repaired["who"], repaired["reason"]) == ("repair", "eve", "restored")
    shown = on_database("audit").output
    assert all(word in shown for word in ("reprioritise", "ada", "cli", "bob", "pause", "repair"))
    assert max(map(len, shown.splitlines())) <= 80


def test_the_list_is_narrowed_by_schedule(on_database: Run, ask: Callable[..., object]) -> None:
    for name in ("mine", "yours"):
        ask(
            "INSERT INTO pipeline.audit (action, who, schedule) VALUES ('pause', 'ada', %s) RETURNING audit_id", (name,)
        )

    (entry,) = entries(on_database, "--schedule", "mine")
    assert entry["schedule"] == "mine"
    assert on_database("audit", "--schedule", "nobodys").output == "commands: none\n"


def test_instants_that_changed_are_written_as_all_others(on_database: Run) -> None:
    on_database("token", "create", "robot", "--expires", "90d")

    (made,) = entries(on_database)
    shown = " ".join(on_database("audit").output.split())
    expires_at = datetime.fromisoformat(made["new_value"]["expires_at"]).astimezone()
    assert f"{expires_at:%Y-%m-%d}" in shown
    assert "+00:00" not in shown
    assert made["new_value"]["expires_at"][10:19] not in shown


def test_the_list_is_narrowed_by_task_by_person_by_time_and_by_number(
    on_database: Run, send: Callable[..., str]
) -> None:
    one, two = send(), send()
    for task_id, who in ((one, "ada"), (two, "bob"), (two, "ada")):
        on_database("task", "snooze", task_id, "1h", "--who", who)

    assert [each["who"] for each in entries(on_database, "--task", two)] == ["ada", "bob"]
    assert [each["task_id"] for each in entries(on_database, "--who", "ada")] == [two, one]
    assert len(entries(on_database, "-n", "1")) == 1
    assert len(entries(on_database, "--since", "1h")) == 3
    assert entries(on_database, "--since", "2100-01-01T00:00") == []
    assert on_database("audit", "--who", "nobody").output == "commands: none\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("--task", "x"), 5), (("--since", "soon"), 2), (("--since", "5y"), 2), (("-n", "0"), 2)],
)
def test_what_makes_no_sense_is_said(on_database: Run, arguments: tuple[str, ...], status: int) -> None:
    assert on_database("audit", *arguments).exit_code == status


def test_show_tells_what_has_happened_to_a_task(on_database: Run, send: Callable[..., str]) -> None:
    task_id = send(delay=60_000)
    on_database("task", "cancel", task_id, "--who", "bob", "--reason", "not at all")

    shown = on_database("task", "show", task_id).output
    told = json.loads(on_database("task", "show", task_id, "--json").output)["timeline"]

    assert "timeline" in shown
    assert told[0]["event"] == "enqueued"
    assert {(each["event"], each["who"]) for each in told} >= {("cancel", "bob"), ("cancelled", "bob")}
