"""``pipeline gate``, and the shares of ``pipeline queue``."""

import json

import pytest

from pipeline import get_broker
from tests.integration.cli.conftest import Run


@pytest.fixture
def letters(on_database: Run) -> None:
    get_broker().sender.ensure_lanes([("letters", 0)])


def test_a_gate_is_paused_shown_limited_and_resumed(on_database: Run) -> None:
    paused = on_database("gate", "pause", "tenant:acme", "--for", "30m", "--reason", "unpaid", "--who", "ada")
    assert (paused.exit_code, paused.output) == (0, "The gate tenant:acme is paused for 0:30:00.\n")
    limited = on_database("gate", "limit", "key:stripe", "3")
    assert (limited.exit_code, limited.output) == (0, "The gate key:stripe has the limit 3.\n")

    shown = on_database("gate", "list").output
    assert "unpaid" in shown
    assert max(map(len, shown.splitlines())) <= 80
    key, tenant = json.loads(on_database("gate", "list", "--json").output)
    assert (key["gate"], key["max_running"]) == ("key:stripe", 3)
    assert (tenant["gate"], tenant["is_paused"], tenant["paused_by"]) == ("tenant:acme", True, "ada")

    assert on_database("gate", "resume", "tenant:acme").output == "The gate tenant:acme is open.\n"
    assert on_database("gate", "limit", "key:stripe", "none").output == "The gate key:stripe has its own limit.\n"
    assert on_database("gate", "list").output == "gates: none\n"


@pytest.mark.usefixtures("letters")
def test_a_queue_is_limited_and_weighed(on_database: Run) -> None:
    assert on_database("queue", "limit", "letters", "5").output == "The queue letters has the limit 5.\n"
    assert on_database("queue", "weight", "letters", "2.5").output == "The queue letters has the weight 2.5.\n"

    (row,) = json.loads(on_database("queue", "list", "--json").output)
    assert (row["max_running"], row["weight"]) == (5, 2.5)
    assert max(map(len, on_database("queue", "list").output.splitlines())) <= 80
    assert on_database("queue", "limit", "letters", "none").output == "The queue letters has no limit.\n"


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "many", "99999999999"])
def test_a_limit_that_is_none_is_wrong_usage(on_database: Run, limit: str) -> None:
    result = on_database("queue", "limit", "--", "letters", limit)

    assert result.exit_code == 2
    assert "is no number of tasks above 0, nor 'none'" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("queue", "limit", "nowhere", "1"), "There is no queue nowhere"),
        (("queue", "weight", "nowhere", "1"), "There is no queue nowhere"),
        (("gate", "pause", "actor:nobody"), "No worker has announced an actor nobody"),
        (("gate", "limit", "tenant:acme", "1"), "There is no gate tenant:acme to do that with"),
    ],
)
def test_what_does_not_exist_is_named(on_database: Run, arguments: tuple[str, ...], complaint: str) -> None:
    result = on_database(*arguments)

    assert result.exit_code == 5
    assert complaint in result.output
