"""Finding tasks: all that match, the newest first, and from indexes only."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.db.statements import load
from pipeline.states import TaskState
from pipeline.store.status import Filters, find
from tests.benchmarks import history

Rows = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.leaves("claim", "worker")


@pytest.fixture
def filled(database_url: str, rows: Rows) -> Rows:
    """A small month of work, which has everything that a large one has."""
    history.fill(database_url, 3_000, 6_000, lambda _: None)
    return rows


#: The same asked in the plainest way: all tasks are looked at.
PLAIN = """
SELECT s.id FROM pipeline.task_status s
 WHERE (%(states)s::text[] IS NULL OR s.state = ANY (%(states)s)) AND (%(actor)s IS NULL OR s.actor = %(actor)s)
   AND (%(queue)s IS NULL OR s.queue = %(queue)s) AND (%(tag)s IS NULL OR %(tag)s = ANY (s.tags))
   AND (%(entity)s IS NULL OR s.entity = %(entity)s) AND (%(tenant)s IS NULL OR s.tenant = %(tenant)s)
   AND (%(correlation_id)s IS NULL OR s.correlation_id = %(correlation_id)s)
 ORDER BY s.id DESC LIMIT %(most)s
"""
FOUND = """
SELECT pipeline.find_tasks(states => %(states)s, actor => %(actor)s, queue => %(queue)s, tag => %(tag)s, entity => %(entity)s,
                           tenant => %(tenant)s, correlation_id => %(correlation_id)s, most => %(most)s)
"""
CHOICES: dict[str, list[Any]] = {
    "states": [
        ["failed"],
        ["succeeded"],
        ["running"],
        ["queued"],
        ["scheduled"],
        ["cancelled", "skipped"],
        ["queued", "failed"],
    ],
    "actor": ["actor_7", "rare_actor", "nobody"],
    "queue": ["queue_2", "rare_queue", "nowhere"],
    "tag": ["import", "rare", "none"],
    "entity": ["invoice:4711", "order:100", "order:0"],
    "tenant": ["tenant_7", "rare"],
    "correlation_id": ["rare", "none"],
}
NOTHING = dict.fromkeys(CHOICES)


def combinations() -> Iterator[dict[str, Any]]:
    """Each thing alone, and sixty times several together."""
    yield NOTHING
    for name, values in CHOICES.items():
        for value in values:
            yield NOTHING | {name: value}
    dice = random.Random(20261126)
    for _ in range(60):
        names = dice.sample(sorted(CHOICES), dice.choice([2, 2, 3]))
        yield NOTHING | {name: dice.choice(CHOICES[name]) for name in names}


def test_whatever_is_given_the_answer_is_that_of_the_plain_question(filled: Rows, connect: Any) -> None:
    with connect(autocommit=True).cursor() as cursor:
        for wanted in combinations():
            answers = []
            for question in (PLAIN, FOUND):
                cursor.execute(question, wanted | {"most": 20})
                answers.append([id for (id,) in cursor.fetchall()])
            assert answers[1] == answers[0], wanted


def test_pages_follow_each_other_without_gap_or_repetition(filled: Rows, connect: Any) -> None:
    sql = load("pipeline")
    with connect(autocommit=True).cursor() as cursor:
        pages, before = [], None
        while page := find(sql, cursor, Filters(states={TaskState.FAILED}), before=before, limit=7):
            pages += page
            before = page[-1].task_id
        everything = find(sql, cursor, Filters(states={TaskState.FAILED}), limit=1000)

    assert [task.id for task in pages] == [task.id for task in everything]
    assert len({task.id for task in pages}) == len(pages) > 20


@pytest.mark.parametrize("most", [0, -1])
def test_nobody_asks_for_nothing(filled: Rows, most: int) -> None:
    assert filled("SELECT pipeline.find_tasks(most => %s)", most) == []


def test_children_are_found_by_their_parent(filled: Rows) -> None:
    parent, *children = [id for (id,) in filled("SELECT id FROM pipeline.task ORDER BY id LIMIT 4")]
    filled("UPDATE pipeline.task SET parent = %s WHERE id = ANY (%s) RETURNING 1", parent, children)
    ((message_id,),) = filled("SELECT message_id::text FROM pipeline.task WHERE id = %s", parent)

    found = [id for (id,) in filled("SELECT pipeline.find_tasks(parent => %s)", message_id)]
    assert found == sorted(children, reverse=True)
    assert filled("SELECT pipeline.find_tasks(parent => gen_random_uuid())") == []


#: Rows that sequential scans have read and rows that indexes have led to, in this transaction.
READ = """
SELECT coalesce(sum(seq_tup_read), 0)::int, coalesce(sum(idx_tup_fetch), 0)::int
  FROM pg_stat_xact_user_tables WHERE schemaname = 'pipeline' AND relname ~ '^(task|attempt|ready|parked)'
"""
#: What may be read for an answer of 20: some on each way, in each partition. There are 9,000 tasks.
MOST_READ = 1_500

QUESTIONS = {
    "the view, by task_id": "SELECT * FROM pipeline.task_status WHERE task_id = (SELECT md5('2000')::uuid)",
    "the view, by id": "SELECT * FROM pipeline.task_status WHERE id = pipeline.find_task_v1(md5('2000')::uuid)",
    "the view, by entity": "SELECT * FROM pipeline.task_status WHERE entity = 'order:100'",
    "the view, by correlation id": "SELECT * FROM pipeline.task_status WHERE correlation_id = 'none'",
    "tasks_v1": "SELECT * FROM pipeline.tasks_v1(ARRAY[pipeline.find_task_v1(md5('2000')::uuid)])",
    **{
        f"find_tasks by {name} {value}": f"SELECT pipeline.find_tasks({name} => '{value}', most => 20)"
        for name, value in [
            *(("states", f"{{{state}}}") for state in TaskState),
            *(("actor", actor) for actor in CHOICES["actor"]),
            *(("queue", queue) for queue in CHOICES["queue"]),
            *(("tag", tag) for tag in CHOICES["tag"]),
            *(("entity", entity) for entity in CHOICES["entity"]),
            *(("tenant", tenant) for tenant in CHOICES["tenant"]),
        ]
    },
}
#: Those of which there are so few among so few that they are all read and sorted.
ALL_OF_A_KIND = {"find_tasks by states {scheduled}", "find_tasks by states {queued}"}


def _read(cursor: Any) -> tuple[int, int]:
    cursor.execute(READ)
    rows: tuple[int, int] = cursor.fetchone()
    return rows


def test_people_are_answered_from_indexes(filled: Rows, connect: Any) -> None:
    """R no question scans a large table; the planner is free to choose."""
    connection = connect(autocommit=False)
    read = {}
    with connection.cursor() as cursor:
        for what, question in QUESTIONS.items():
            before = _read(cursor)
            cursor.execute(question)
            read[what] = [after - before for after, before in zip(_read(cursor), before, strict=True)]

    assert {what: rows for what, (rows, _) in read.items() if rows} == {}
    assert {what: rows for what, (_, rows) in read.items() if rows > MOST_READ and what not in ALL_OF_A_KIND} == {}


def test_a_question_without_an_index_is_noticed(filled: Rows, connect: Any) -> None:
    connection = connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pipeline.task_status WHERE created_at > now()")
        assert _read(cursor)[0] > MOST_READ
