"""``pipeline queue``."""

import json

import pytest

from pipeline import get_broker
from tests.integration.cli.conftest import Run


@pytest.fixture
def letters(on_database: Run) -> None:
    get_broker().sender.ensure_lanes([("letters", 0)])


@pytest.mark.usefixtures("letters")
def test_a_queue_is_paused_shown_and_resumed(on_database: Run) -> None:
    paused = on_database("queue", "pause", "letters", "--for", "30m", "--reason", "out of paper", "--who", "ada")
    assert (paused.exit_code, paused.output) == (0, "The queue letters is paused for 0:30:00.\n")

    shown = on_database("queue", "list").output
    assert "out of paper" in shown
    assert "ada" in shown
    assert max(map(len, shown.splitlines())) <= 80
    (row,) = json.loads(on_database("queue", "list", "--json").output)
    assert (row["queue"], row["is_paused"], row["paused_by"]) == ("letters", True, "ada")

    resumed = on_database("queue", "resume", "letters")
    assert (resumed.exit_code, resumed.output) == (0, "The queue letters goes on.\n")
    assert on_database("queue", "list").output.endswith("paused: none\n")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_queue_is_an_error(on_database: Run, command: str) -> None:
    result = on_database("queue", command, "lettters")

    assert (result.exit_code, result.output) == (5, "Error: There is no queue lettters\n")


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("span", ["0s", "-1m", "1.5h", "soon", "10", ""])
def test_a_time_span_that_is_none_is_wrong_usage(on_database: Run, span: str) -> None:
    result = on_database("queue", "pause", "letters", "--for", span)

    assert result.exit_code == 2
    assert "is no time span; write 90s, 30m, 2h or 1d" in result.output
    assert not json.loads(on_database("queue", "list", "--json").output)[0]["is_paused"]
