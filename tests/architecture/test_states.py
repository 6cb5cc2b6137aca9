"""States and outcomes mean the same in Python, in SQL and in the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.states import FINAL_STATES, Outcome, TaskState
from tests.architecture.tree import doc, sql, table_rows

Rows = Callable[..., list[tuple[Any, ...]]]

#: What a run that ended so makes of its task, when nothing waits.
FINAL = {
    Outcome.SUCCEEDED: TaskState.SUCCEEDED,
    Outcome.FAILED: TaskState.FAILED,
    Outcome.CANCELLED: TaskState.CANCELLED,
    Outcome.SKIPPED: TaskState.SKIPPED,
}


@pytest.fixture
def task(rows: Rows) -> str:
    """A task that waits."""
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    return str(rows("SELECT pipeline.enqueue('some_actor', queue => 'default')")[0][0])


def conclude(rows: Rows, outcome: Outcome, attempt: int = 1) -> None:
    rows("DELETE FROM pipeline.ready")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) "
        "SELECT id, 1, %s, %s, clock_timestamp() FROM pipeline.task",
        attempt,
        outcome.value,
    )


def state(rows: Rows) -> list[tuple[str, str]]:
    """What the view says, and what the function says."""
    rows("SET search_path = pipeline")
    return rows("SELECT state, task_state(id) FROM task_status")


@pytest.mark.parametrize("outcome", Outcome)
def test_views_and_functions_read_an_outcome_as_python_does(rows: Rows, task: str, outcome: Outcome) -> None:
    conclude(rows, outcome)

    expected = FINAL.get(outcome, TaskState.RUNNING).value
    assert state(rows) == [(expected, expected)]
    assert rows("SELECT outcome FROM pipeline.attempt_history") == [(outcome.name.lower(),)]


@pytest.mark.parametrize(("delay", "expected"), [("-1 s", TaskState.QUEUED), ("1 h", TaskState.SCHEDULED)])
def test_what_waits_is_queued_or_scheduled(rows: Rows, task: str, delay: str, expected: TaskState) -> None:
    rows("UPDATE pipeline.ready SET eta = clock_timestamp() + %s::interval", delay)

    assert state(rows) == [(expected.value, expected.value)]


def test_final_states_are_those_of_final_outcomes() -> None:
    assert set(FINAL.values()) == FINAL_STATES


@pytest.mark.parametrize("outcome", Outcome)
def test_only_counted_outcomes_end_an_attempt(outcome: Outcome) -> None:
    uncounted = {Outcome.INTERRUPTED, Outcome.LOST, Outcome.CANCELLED, Outcome.SKIPPED}

    assert outcome.is_counted == (outcome not in uncounted)


def test_sql_uses_the_letters_of_python_only() -> None:
    of_firings = {"f", "o", "m"}  # fired, left out, missed
    letters = {outcome.value for outcome in Outcome} | of_firings
    compared = re.compile(r"\boutcome (?:=|IN|NOT IN|<>) ?\(?((?:'\w', ?)*'\w')")

    found = {letter for source in sql() for text in compared.findall(source.text) for letter in re.findall(r"\w", text)}

    assert found
    assert found <= letters


def test_the_table_says_what_the_letters_mean() -> None:
    (migration,) = sql("sql/migrations/0001_create_core.sql")
    (comment,) = re.findall(r"outcome +\"char\" .*?-- (.*)", migration.text)

    assert dict(re.findall(r"(\w) (\w+)", comment)) == {outcome.value: outcome.name.lower() for outcome in Outcome}


def test_the_documentation_names_all_states_and_outcomes_and_no_other() -> None:
    page = doc("reference/states.md")
    states, outcomes = page.split("## Outcomes", 1)

    assert first_cells(states) == {state.value for state in TaskState}
    assert first_cells(outcomes) == {outcome.name.lower() for outcome in Outcome}


def first_cells(page: str) -> set[str]:
    """Read the words in the first column of the page's tables."""
    return {row[0].strip("`") for row in table_rows(page) if row[0].startswith("`")}
