"""``pipeline status`` and ``pipeline inspect``."""

import json
from threading import Event
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker, cancel, get_broker
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.cli.conftest import Run

GATE = Event()


@pipeline.actor(actor_name="cli_hold", queue_name="cli", max_retries=0, broker=get_broker())
def hold() -> str:
    """Wait until the test lets go."""
    GATE.wait(20)
    return "held"


@pytest.fixture
def broker(on_database: Run) -> PostgresBroker:
    GATE.clear()
    return get_broker()


def test_the_overview_of_an_empty_database(on_database: Run) -> None:
    result = on_database("status")

    assert result.exit_code == 0, result.output
    assert result.output.split("\n\n") == ["queues: none", "workers: none", "newest tasks: none\n"]


def test_the_overview_fits_on_a_screen(on_database: Run, broker: PostgresBroker) -> None:
    ids = [hold.send().message_id for _ in range(3)]
    cancel(ids[0], who="test")

    output = on_database("status", "-n", "2").output

    assert max(map(len, output.splitlines())) <= 80
    assert all(task_id in output for task_id in ids[1:])
    assert ids[0] not in output
    (queue,) = (line.split() for line in output.splitlines() if line.startswith("cli "))
    assert queue == ["cli", "2", "0", "0", queue[-1]]


def test_one_task_is_shown_with_its_runs(on_database: Run, broker: PostgresBroker) -> None:
    message = hold.send()
    with working(broker, threads=1):
        GATE.set()
        message.get_result(block=True, timeout=20_000)

    output = on_database("status", message.message_id).output
    assert "cli_hold" in output
    assert "succeeded" in output
    shown = json.loads(on_database("status", message.message_id, "--json").output)
    assert (shown["state"], shown["result"], shown["args"]) == ("succeeded", "held", "[]")
    assert [(run["run"], run["outcome"]) for run in shown["runs"]] == [(1, "s")]


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "abc"])
def test_an_unknown_task_is_an_error(on_database: Run, task_id: str) -> None:
    result = on_database("status", task_id)

    assert (result.exit_code, result.output) == (5, f"Error: There is no task {task_id}\n")


def test_inspect_tells_what_runs_waits_and_is_reserved(
    on_database: Run, broker: PostgresBroker, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspected(what: str) -> list[Any]:
        result = on_database("inspect", what, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)  # type: ignore[no-any-return]

    later = hold.send_with_options(delay=60_000).message_id
    quick = broker.settings.model_copy(update={"beat_seconds": 0.2})
    monkeypatch.setattr(broker, "settings", quick)
    with working(broker, threads=1):
        task_id = hold.send().message_id
        eventually(lambda: [held["task_id"] for held in inspected("active")] == [task_id], within=5)
        assert [task["task_id"] for task in inspected("scheduled")] == [later]
        ask("WITH u AS (UPDATE pipeline.worker SET running = '{}' RETURNING 1) SELECT count(*) FROM u")
        assert task_id in [held["task_id"] for held in inspected("reserved") + inspected("active")]
        (worker,) = inspected("stats")
        assert (worker["state"], worker["threads"], worker["claimed"]) == ("alive", 1, 1)
        for what, expected in (("active", task_id), ("scheduled", later), ("stats", "alive")):
            eventually(lambda what=what, expected=expected: expected in on_database("inspect", what).stdout)
            assert max(map(len, on_database("inspect", what).stdout.splitlines())) <= 80
        GATE.set()


def test_tasks_are_listed_by_what_is_known_of_them(on_database: Run, broker: PostgresBroker) -> None:
    """Newest first, page by page; as a table and as JSON."""
    ids = [hold.send_with_options(delay=60_000).message_id for _ in range(5)]
    done = hold.send_with_options(delay=60_000).message_id
    pipeline.cancel(done, who="ada")

    def listed(*options: str) -> list[str]:
        result = on_database("task", "list", "--json", *options)
        assert result.exit_code == 0, result.output
        return [task["task_id"] for task in json.loads(result.stdout)]

    assert listed() == [done, *ids[::-1]]
    assert listed("--state", "scheduled", "-n", "2") == [ids[4], ids[3]]
    assert listed("--state", "scheduled", "-n", "2", "--before", ids[3]) == [ids[2], ids[1]]
    assert listed("--state", "scheduled", "--state", "cancelled", "--actor", hold.actor_name) == [done, *ids[::-1]]
    assert listed("--queue", "nowhere") == listed("--tag", "none") == listed("--entity", "a:1") == []
    assert "cancelled" in on_database("task", "list", "--state", "cancelled").stdout


@pytest.mark.parametrize("option", ["--before", "--parent"])
def test_a_list_relative_to_an_unknown_task_is_an_error(on_database: Run, option: str) -> None:
    result = on_database("task", "list", option, "nonsense")

    assert (result.exit_code, result.output) == (5, "Error: There is no task nonsense\n")
