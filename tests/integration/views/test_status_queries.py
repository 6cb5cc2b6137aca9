"""The questions in ``sql/status_queries.sql``, each asked of a database in which the answer is known."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker
from pipeline.db.sources import ROOT, render
from tests.fixtures import dump
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]

TEXT = (ROOT / "status_queries.sql").read_text(encoding="utf-8")
#: Each question with its statement, by its number.
QUESTIONS = {
    int(number): (question, statement)
    for number, question, statement in re.findall(r"(?ms)^-- (\d+)\. (.+?)$\n(.+?;)$", TEXT)
}

_ALIVE = (
    "INSERT INTO pipeline.worker (host, pid, threads, queues, running, running_since, running_threads, beat_at)"
    " VALUES ('here', 1, 1, '{default}', %s, %s::timestamptz[], %s, now() - %s * interval '1 s') RETURNING worker_id"
)
_CLAIM = (
    "WITH gone AS (DELETE FROM pipeline.ready WHERE id = %s RETURNING *)"
    " INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas)"
    " SELECT %s, ARRAY[id], ARRAY[run], ARRAY[lane_id], ARRAY[eta] FROM gone"
)


@pytest.fixture
def story(broker: PostgresBroker, rows: Rows, database_url: str) -> SimpleNamespace:
    """Tasks in every situation that somebody might ask about."""

    @pipeline.actor(max_retries=3, min_backoff=1_800_000, max_backoff=1_800_000)
    def work(what: str = "") -> str:
        if what:
            raise ValueError(what)
        return "x" * 1000

    @pipeline.actor(queue_name="nobody")
    def lonely() -> None: ...

    def send(what: str = "", **options: Any) -> str:
        return str(work.send_with_options(args=(what,), **options).message_id)

    told = SimpleNamespace(
        good=send(entity="invoice:4711", correlation_id="request-1"),
        bad=send("bad", max_retries=0, entity="invoice:4711", correlation_id="request-1"),
        again=send("again"),
    )
    with working(broker):
        done = "SELECT count(*) FROM pipeline.attempt"
        eventually(lambda: rows(done) == [(3,)], within=20)
    told.running, told.held, told.lost, told.parked = send(), send(), send(), send()
    told.due, told.later = send(tenant="acme"), send(tenant="acme", delay=7_200_000)
    told.lonely = str(lonely.send().message_id)
    ids: dict[str, int] = dict(rows("SELECT message_id::text, id FROM pipeline.task"))
    told.worker = rows(_ALIVE, [ids[told.running]], ["2020-01-01"], [3], 0)[0][0]
    told.silent = rows(_ALIVE, [], [], [], 3600)[0][0]
    rows(_CLAIM, ids[told.running], told.worker)
    rows(_CLAIM, ids[told.held], told.silent)
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, 1, 0, 'l', now())",
        ids[told.lost],
    )
    rows("UPDATE pipeline.ready SET run = 2 WHERE id = %s", ids[told.lost])
    rows(
        "WITH gone AS (DELETE FROM pipeline.ready WHERE id = %s RETURNING *)"
        " INSERT INTO pipeline.parked SELECT id, eta, lane_id, run, 0, 'actor:work' FROM gone",
        ids[told.parked],
    )
    rows("TRUNCATE pipeline.stat_minute")
    rows(
        "INSERT INTO pipeline.stat_minute (minute, queue, actor, started, succeeded, failed, retried, run_ms, waits, runs)"
        " VALUES (date_trunc('minute', now()), 'default', 'work', 3, 1, 1, 1, 3000, array_fill(3, '{17}'), array_fill(3, '{17}'))"
    )
    rows(
        "WITH made AS (INSERT INTO pipeline.schedule (name, kind, expression, timezone, gap, fold, anchor_at, actor, updated_by)"
        " VALUES ('nightly', 'cron', '0 2 * * *', 'UTC', 'next', 'first', '2018-01-01', 'work', 'ada') RETURNING schedule_id)"
        " INSERT INTO pipeline.firing (schedule_id, schedule, due_at, message_id, outcome, instants, fired_by)"
        " SELECT schedule_id, 'nightly', now() - late, message_id, outcome, instants, 'here:1' FROM made, (VALUES"
        " (interval '1 s', %s::uuid, 'f'::\"char\", 1), ('1 minute', %s, 'f', 1), ('3 hours', NULL, 'm', 5), ('2 hours', NULL, 'o', 1)"
        ") AS one(late, message_id, outcome, instants)",
        told.good,
        told.bad,
    )
    pipeline.pause_actor("work", who="ada", reason="wrong prices")
    pipeline.pause_queue("nobody", who="bob", resume_after=timedelta(hours=1))
    return told


def expected(story: SimpleNamespace) -> dict[int, tuple[str, list[tuple[Any, ...]]]]:
    """What of each answer is looked at, and what it is."""
    return {
        1: ("task_id worker_id", [(story.held, story.silent)]),
        2: ("task_id worker_id", [(story.running, story.worker)]),
        3: ("actor started mean_run_seconds", [("work", 3, 1.0)]),
        4: ("task_id attempt error", [(story.again, 1, "ValueError: again")]),
        5: ("actor error_type failures last_task_id", [("work", "ValueError", 1, story.bad)]),
        6: ("started succeeded failed retried", [(3, 1, 1, 1)]),
        7: ("tenant queued scheduled", [("acme", 1, 1)]),
        8: ("task_id state", [(story.bad, "failed"), (story.good, "succeeded")]),
        9: ("queue paused_by", [("default", None), ("nobody", "bob")]),
        10: ("worker_id task_id actor", [(story.worker, story.running, "work")]),
        11: (
            "who source action at_what",
            [("bob", "python", "pause", "nobody"), ("ada", "python", "pause", "actor:work")],
        ),
        12: ("task_id", [(story.again,), (story.later,)]),
        13: ("task_id state losses", [(story.lost, "queued", 1)]),
        14: ("gate waiting paused_by pause_reason", [("actor:work", 1, "ada", "wrong prices")]),
        15: ("task_id bytes", [(story.good, 1002)]),
        16: ("task_id attempt", [(story.again, 1)]),
        17: ("queue queued", [("nobody", 1)]),
        22: ("event", [("enqueued",), ("started",), ("failed",)]),
        23: ("what paused_by pause_reason", [("actor:work", "ada", "wrong prices"), ("queue:nobody", "bob", "")]),
        24: ("task_id state", [(story.good, "succeeded"), (story.bad, "failed")]),
        25: ("schedule task_id fired_by", [("nightly", story.bad, "here:1")]),
        26: ("schedule outcome instants", [("nightly", "left out", 1), ("nightly", "missed", 5)]),
        27: ("schedule state tasks error", [("nightly", "failed", 1, "ValueError: bad")]),
    }


@pytest.fixture
def answer(connect: Any) -> Callable[..., Any]:
    """Ask one question; of its answer, the columns named."""
    cursor = connect(autocommit=True).cursor()

    def ask(number: int, columns: str, **edits: Any) -> list[tuple[Any, ...]]:
        statement = render(QUESTIONS[number][1], "pipeline")
        for before, after in edits.items():
            statement = statement.replace(before, after)
        cursor.execute(statement)
        names = [column.name for column in cursor.description]
        return [tuple(row[names.index(name)] for name in columns.split()) for row in cursor.fetchall()]

    return ask


@pytest.mark.leaves("claim", "worker")
def test_every_question_about_tasks_gets_the_answer_that_is_true(story: SimpleNamespace, answer: Any) -> None:
    edits = {"worker_id = 1": f"worker_id = {story.worker}", "00000000-0000-4000-8000-000000000000": story.bad}
    wanted = expected(story)

    found = {number: (columns, answer(number, columns, **edits)) for number, (columns, _) in wanted.items()}

    assert found == wanted


def test_the_sizes_of_weeks_and_the_dead_rows_are_told(answer: Any, rows: Rows) -> None:
    week = rows("SELECT pipeline.week_at(now())")[0][0]

    sizes = answer(18, "table partition size")
    dead = answer(19, "table live dead size")

    assert {(table, partition) for table, partition, _ in sizes} >= {
        ("task", f"task_w{week}"),
        ("attempt", "attempt_default"),
    }
    assert dead
    assert all(size for *_, size in dead)


def test_who_holds_the_horizon_is_named(answer: Any, connect: Any) -> None:
    with connect() as session, session.cursor() as cursor:
        session.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT 1")

        assert session.info.backend_pid in {int(name) for kind, name in answer(20, "kind name") if kind == "session"}


def test_who_waits_for_whose_lock_is_named(answer: Any, connect: Any) -> None:
    lock = "LOCK TABLE pipeline.queue"
    with connect() as holding, connect() as waiting, ThreadPoolExecutor(1) as pool:
        holding.cursor().execute(lock)
        locked = pool.submit(waiting.cursor().execute, lock)
        found = eventually(lambda: answer(21, "pid blocked_by"))
        holding.rollback()
        locked.result(10)

        assert found == [(waiting.info.backend_pid, holding.info.backend_pid)]


def test_there_are_more_than_twenty_questions_each_with_a_heading() -> None:
    assert list(QUESTIONS) == list(range(1, 28))
    assert all(question.rstrip(".").endswith("?") or "?" in question for question, _ in QUESTIONS.values())


def test_psql_runs_them_all(database_url: str) -> None:
    psql = dump.program("psql", database_url)
    done = subprocess.run(
        [psql, "-X", "-v", "ON_ERROR_STOP=1", "-f", str(ROOT / "status_queries.sql"), database_url],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
