"""Logs go with their week; those of unfinished tasks stay as long as these do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.db.statements import load
from pipeline.store import task_logs
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def old_week(rows: Rows, old_week: int) -> int:
    """The same with a partition for logs."""
    rows("SELECT pipeline.make_partition_v1('task_log', %s)", old_week)
    return old_week


@pytest.fixture
def log(cursor: Any) -> Callable[..., None]:
    """Log a line for a run of a task."""

    def write(task_id: int, run: int, number: int = 1) -> None:
        line = f'[{{"t": {task_id}, "r": {run}, "n": {number}, "a": 0, "l": 20, "g": "x", "m": "run {run}"}}]'
        task_logs.write(load("pipeline"), cursor, line)

    return write


@pytest.fixture
def logged(rows: Rows) -> Callable[[], list[tuple[Any, ...]]]:
    """List task, run, line, and the attempt that the view tells."""
    return lambda: rows("SELECT id, run, line, attempt FROM pipeline.task_logs ORDER BY id, run, line")


def test_a_week_takes_its_logs_along(keeper, cursor, rows, old_week, add_task, log, logged) -> None:
    log(add_task(old_week, outcomes="s"), 1)
    assert rows(f"SELECT count(*) FROM pipeline.task_log_w{old_week}") == [(1,)]

    keeper.run(cursor)

    assert rows("SELECT to_regclass(%s)", f"pipeline.task_log_w{old_week}") == [(None,)]
    assert rows("SELECT count(*) FROM pipeline.task_log") == [(0,)]


def test_logs_of_unfinished_tasks_stay_and_go_on(keeper, cursor, rows, old_week, add_task, log, logged) -> None:
    waiting = add_task(old_week, waits=True, due_in=3600, outcomes="rr")
    held = add_task(old_week, is_held=True, outcomes="r")
    over = add_task(old_week, outcomes="s")
    for task in (waiting, held, over):
        log(task, 1)
    log(waiting, 2)

    keeper.run(cursor)
    log(held, 2)
    log(held, 2, 2)

    assert logged() == [(waiting, 1, 1, 1), (waiting, 2, 1, 2), (held, 1, 1, 1), (held, 2, 1, 2), (held, 2, 2, 2)]
    rows("DELETE FROM pipeline.claim")


def test_a_line_of_a_task_that_went_with_its_week_is_left_out(
    keeper, cursor, rows, old_week, add_task, log, logged
) -> None:
    """It was on its way when the week was dropped. Nobody would ever remove it again."""
    gone = add_task(old_week, outcomes="s")
    keeper.run(cursor)

    log(gone, 1)

    assert rows("SELECT count(*) FROM pipeline.task_log") == [(0,)]


def test_logs_of_a_carried_task_go_with_it_in_the_end(
    keeper, purger, cursor, rows, old_week, add_task, log, logged
) -> None:
    task = add_task(old_week, waits=True, outcomes="r")
    log(task, 1)
    keeper.run(cursor)
    assert len(logged()) == 1
    rows("DELETE FROM pipeline.ready")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " VALUES (%s, 2, 2, 's', now() - interval '40 days')",
        task,
    )

    keeper.run(cursor)
    purger.run(cursor)

    assert rows("SELECT count(*) FROM pipeline.task_carry") == [(0,)]
    assert rows("SELECT count(*) FROM pipeline.task_log") == [(0,)]


def test_lines_wait_for_a_week_that_is_being_dropped_and_lose_nothing(
    connect, keeper, cursor, rows, old_week, add_task, log, logged
) -> None:
    """Written to a partition that is about to be detached, they would be gone."""
    task = add_task(old_week, waits=True, due_in=3600)
    rows("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", old_week)
    dropping = connect()
    dropping.cursor().execute("SELECT pipeline.drop_week_v1(%s)", (old_week,))
    writing = threading.Thread(target=log, args=(task, 1))
    writing.start()
    eventually(lambda: rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), within=5)
    dropping.commit()
    writing.join(5)

    assert logged() == [(task, 1, 1, 1)]
