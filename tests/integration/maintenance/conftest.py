"""Weeks long past, and tasks that were enqueued in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from pipeline.db.statements import load
from pipeline.maintenance.partitions import Partitions
from pipeline.maintenance.purger import Purger

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def cursor(connect):
    """A cursor as the caretaker has it."""
    with connect(autocommit=True).cursor() as cursor:
        yield cursor


@pytest.fixture
def keeper(settings):
    return Partitions(settings, load("pipeline"))


@pytest.fixture
def purger(settings):
    return Purger(settings, ("dramatiq", ""), load("pipeline"))


@pytest.fixture
def week(rows: Rows) -> int:
    """The number of this week."""
    return rows("SELECT pipeline.week_at(now())")[0][0]


@pytest.fixture
def old_week(rows: Rows, week: int) -> int:
    """A week whose time is over, with its partitions."""
    old = week - 6
    rows("SELECT pipeline.make_partition_v1('task', %s), pipeline.make_partition_v1('attempt', %s)", old, old)
    return old


@pytest.fixture
def weeks(rows: Rows) -> Callable[[str], set[int]]:
    """The weeks that a table has partitions for."""
    return lambda table: {each for (each,) in rows("SELECT pipeline.partition_weeks(%s)", f"pipeline.{table}")}


@pytest.fixture
def add_task(connect: Callable[..., Any], rows: Rows) -> Callable[..., int]:
    """Store a task of a week, in one transaction: waiting, held by worker 1, or finished. Returns its id."""
    lane = rows("SELECT pipeline.ensure_lane_v1('default', 0)")[0][0]
    connection = connect()
    numbers = count(1)

    def add(
        week: int, *, waits: bool = False, due_in: float = 0, is_held: bool = False, outcomes: str = "", **options: Any
    ) -> int:
        payload = json.dumps({"args": [20, 3], "kwargs": {}, "options": options, "message_timestamp": 0})
        run = len(outcomes) + 1
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
                " VALUES (pipeline.first_id(%s) + %s, now() - interval '42 days', now() - interval '42 days',"
                " gen_random_uuid(), %s, 's', 'add', %s) RETURNING id",
                (week, next(numbers), lane, payload),
            )
            task_id: int = cursor.fetchone()[0]
            cursor.execute(
                "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at, patch)"
                " SELECT %s, n, n, o, now() - interval '40 days',"
                " CASE o WHEN 'r' THEN json_build_object('retries', n) END"
                " FROM regexp_split_to_table(%s, '') WITH ORDINALITY AS u(o, n) WHERE o <> ''",
                (task_id, outcomes),
            )
            if waits:
                due = "INSERT INTO pipeline.ready VALUES (%s, clock_timestamp() + %s * interval '1 s', %s, %s)"
                cursor.execute(due, (task_id, due_in, lane, run))
            if is_held:
                claim = "INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas) VALUES (1, %s, %s, %s, '{now}')"
                cursor.execute(claim, ([task_id], [run], [lane]))
        return task_id

    return add
