"""Searching tasks by all that people know of them, and not for longer than it may take."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.db.statements import load
from pipeline.states import TaskState
from pipeline.store.search import ALL, Asked, Found, count, search
from tests.benchmarks import history

Rows = Callable[..., list[tuple[Any, ...]]]

SQL = load("pipeline")
NOW = datetime.now(tz=UTC)

pytestmark = pytest.mark.leaves("claim", "worker")


@pytest.fixture
def filled(database_url: str, rows: Rows) -> Rows:
    """A small month of work, which has everything that a large one has."""
    history.fill(database_url, 3_000, 6_000, lambda _: None)
    return rows


@pytest.fixture
def cursor(connect: Any) -> Iterator[Any]:
    with connect(autocommit=True).cursor() as cursor:
        yield cursor


#: The same asked in the plainest way: all tasks are looked at.
PLAIN = """
SELECT s.id FROM pipeline.task_status s
 WHERE (%(states)s::text[] IS NULL OR s.state = ANY (%(states)s)) AND (%(actor)s IS NULL OR s.actor = %(actor)s)
   AND (%(tag)s IS NULL OR %(tag)s = ANY (s.tags)) AND (%(worker_id)s IS NULL OR s.worker_id = %(worker_id)s)
   AND (%(error_type)s IS NULL OR split_part(s.error, ':', 1) = %(error_type)s)
   AND (%(text)s IS NULL OR s.actor ILIKE '%%' || %(text)s || '%%' OR s.error ILIKE '%%' || %(text)s || '%%'
                         OR s.entity ILIKE '%%' || %(text)s || '%%' OR array_to_string(s.tags, ' ') ILIKE '%%' || %(text)s || '%%')
   AND (%(created_from)s::timestamptz IS NULL OR s.created_at >= %(created_from)s)
   AND (%(created_to)s::timestamptz IS NULL OR s.created_at < %(created_to)s)
   AND (%(finished_from)s::timestamptz IS NULL OR s.finished_at >= %(finished_from)s)
   AND (%(finished_to)s::timestamptz IS NULL OR s.finished_at < %(finished_to)s)
 ORDER BY s.id DESC LIMIT 20
"""
CHOICES: dict[str, list[Any]] = {
    "states": [[TaskState.FAILED], [TaskState.QUEUED, TaskState.FAILED]],
    "actor": ["actor_7", "nobody"],
    "tag": ["import", "rare"],
    "worker_id": [1, 77],
    "error_type": ["ValueError", "KeyError", "Value"],
    "text": ["NO 99", "invoice:47", "rare", "100%"],
    "created_from": [NOW - timedelta(days=3), NOW + timedelta(days=1)],
    "created_to": [NOW - timedelta(days=20), NOW - timedelta(days=40)],
    "finished_from": [NOW - timedelta(days=2)],
    "finished_to": [NOW - timedelta(days=12)],
}


def combinations() -> Iterator[dict[str, Any]]:
    """Each thing alone, and forty times several together."""
    for name, values in CHOICES.items():
        for value in values:
            yield {name: value}
    dice = random.Random(20261126)
    for _ in range(40):
        names = dice.sample(sorted(CHOICES), dice.choice([2, 2, 3]))
        yield {name: dice.choice(CHOICES[name]) for name in names}


def test_whatever_is_asked_the_answer_is_that_of_the_plain_question(filled: Rows, cursor: Any) -> None:
    for wanted in combinations():
        cursor.execute(PLAIN, dict.fromkeys(CHOICES) | wanted)
        expected = [id for (id,) in cursor.fetchall()]
        found = search(SQL, cursor, Asked(**wanted), limit=20)

        assert ([task.id for task in found.tasks], found.searched_to) == (expected, None), wanted


def test_a_search_that_may_take_no_time_goes_on_where_it_ended(filled: Rows, cursor: Any) -> None:
    """Each part looks at some tasks at least, and together they find what one search finds that takes its time."""
    for asked in (
        Asked(text="no 978", states=[TaskState.FAILED]),
        Asked(worker_id=77, tag="import"),
        Asked(error_type="X"),
    ):
        expected = [task.id for task in search(SQL, cursor, asked, limit=10_000).tasks]
        parts = list(parts_of(cursor, asked))

        assert [task.id for part in parts for task in part.tasks] == expected
        assert any(part.searched_to for part in parts)


def parts_of(cursor: Any, asked: Asked) -> Iterator[Found]:
    """Ask for ten tasks at a time, without giving the search any."""
    before: int | None = None
    while True:
        found = search(SQL, cursor, asked, before=before, limit=10, within_ms=0)
        yield found
        if found.searched_to_at is not None:
            assert NOW - timedelta(days=30) < found.searched_to_at < NOW + timedelta(minutes=5)
        last = found.searched_to or (found.tasks[9].id if len(found.tasks) == 10 else None)
        if last is None:
            return
        assert before is None or last < before
        before = last


def test_what_may_be_large_is_read_if_it_is_wanted(filled: Rows, cursor: Any) -> None:
    asked = Asked(states=[TaskState.FAILED])
    without = search(SQL, cursor, asked, limit=1).tasks[0]
    with_all = search(SQL, cursor, asked, limit=1, large=["args", "kwargs", "error", "result"]).tasks[0]

    assert (without.args, without.kwargs, without.error) == (None, None, None)
    assert (len(with_all.args), str(with_all.error)[:11]) == (2, "ValueError:")
    assert without.task_id == with_all.task_id


def test_tasks_are_counted_up_to_a_limit(filled: Rows, cursor: Any) -> None:
    failed = Asked(states=[TaskState.FAILED])
    everything = len(search(SQL, cursor, failed, limit=ALL).tasks)

    exact, capped, just = (count(SQL, cursor, failed, limit=most) for most in (ALL, everything - 1, everything))

    assert (exact.value, exact.is_exact) == (everything, True)
    assert (capped.value, capped.is_exact) == (everything - 1, False)
    assert (just.value, just.is_exact) == (everything, True)
    assert not count(SQL, cursor, Asked(text="nothing has this"), within_ms=0).is_exact


@pytest.mark.parametrize("year", [1, 1969, 2019, 2090, 9999])
def test_any_time_can_be_asked_for(filled: Rows, cursor: Any, year: int) -> None:
    at = datetime(year, 6, 1, tzinfo=UTC)
    before, after = (
        len(search(SQL, cursor, asked, limit=5).tasks) for asked in (Asked(created_to=at), Asked(created_from=at))
    )

    assert (before, after) == ((0, 5) if year < 2026 else (5, 0))
