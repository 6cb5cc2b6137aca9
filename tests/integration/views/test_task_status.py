"""What ``task_status`` shows of a task in each moment of its life."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.races.sessions import Outcome, Session

Rows = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.leaves("claim", "worker")


@pytest.fixture
def shown(rows: Rows) -> Callable[..., tuple[Any, ...]]:
    """Some columns of one task."""

    def read(task_id: str, *columns: str) -> tuple[Any, ...]:
        (row,) = rows(f"SELECT {', '.join(columns)} FROM pipeline.task_status WHERE task_id = %s", task_id)
        return row

    return read


def told(db: Session, worker: int, ids: list[int], thread: int = 3) -> None:
    """Let a worker tell what runs in it."""
    db.ask(
        "UPDATE pipeline.worker SET running = %s, running_since = array_fill(now() - interval '5 s', ARRAY[%s]),"
        " running_threads = array_fill(%s, ARRAY[%s]) WHERE worker_id = %s",
        *(ids, len(ids), thread, len(ids), worker),
    )


def test_a_claimed_task_is_queued_until_its_worker_tells_that_it_runs(db: Session, shown: Any) -> None:
    worker, task_id = db.register(), db.enqueue()
    assert shown(task_id, "state", "worker_id") == ("queued", None)

    (run,) = db.claim(worker)
    assert shown(task_id, "state", "worker_id", "started_at", "thread") == ("queued", worker, None, None)

    told(db, worker, [run.id])
    state, who, thread, seconds, last_seen = shown(
        task_id, "state", "worker_id", "thread", "extract(epoch FROM now() - started_at)::float8", "last_seen_at"
    )
    assert (state, who, thread, last_seen) == ("running", worker, 3, None)
    assert 5 <= seconds < 15

    db.exchange(worker, [Outcome(run)], done=[run.claim])
    assert shown(task_id, "state", "worker_id", "thread", "progress") == ("succeeded", worker, None, 100)


def test_what_a_silent_worker_holds_runs_and_was_last_seen_then(db: Session, shown: Any) -> None:
    """Never queued: nobody knows, and it may be at work."""
    worker, begun, unknown = db.register(), db.enqueue(), db.enqueue()
    runs = db.claim(worker, 2)
    told(db, worker, [runs[0].id])
    db.ask("UPDATE pipeline.worker SET beat_at = clock_timestamp() - 4 * beat_seconds * interval '1 s'")

    (beat_at,) = db.ask("SELECT beat_at FROM pipeline.worker")[0]
    assert [shown(task, "state", "last_seen_at") for task in (begun, unknown)] == [("running", beat_at)] * 2


def test_queues_count_as_their_tasks_are_shown(db: Session, rows: Rows) -> None:
    """Waiting, not due, reserved and running; and all that a silent worker holds."""
    worker = db.register()
    for _ in range(4):
        db.enqueue()
    db.enqueue(d=60_000)
    runs = db.claim(worker, 3)
    told(db, worker, [runs[0].id])
    counts = "SELECT queued, scheduled, running, reserved FROM pipeline.queue_status WHERE queue = 'default'"
    assert rows(counts) == [(3, 1, 1, 2)]
    states = "SELECT state, count(*)::int FROM pipeline.task_status GROUP BY 1 ORDER BY 1"
    assert rows(states) == [("queued", 3), ("running", 1), ("scheduled", 1)]

    db.ask("UPDATE pipeline.worker SET beat_at = clock_timestamp() - 4 * beat_seconds * interval '1 s'")
    assert rows(counts) == [(1, 1, 3, 0)]
    assert rows(states) == [("queued", 1), ("running", 3), ("scheduled", 1)]


def test_a_worker_that_is_late_by_a_beat_is_not_silent(db: Session, shown: Any) -> None:
    worker, task_id = db.register(), db.enqueue()
    db.claim(worker)
    db.ask("UPDATE pipeline.worker SET beat_at = clock_timestamp() - 2 * beat_seconds * interval '1 s'")

    assert shown(task_id, "state", "last_seen_at") == ("queued", None)


def test_a_finished_task_that_runs_again_is_shown_by_its_new_run(db: Session, shown: Any) -> None:
    worker, task_id = db.register(), db.enqueue()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "f")], done=[run.claim])
    assert shown(task_id, "state") == ("failed",)

    db.value("SELECT pipeline.retry_now_v1(%s, false, 'me', '')", task_id)
    assert shown(task_id, "state", "finished_at", "worker_id") == ("queued", None, None)
    (again,) = db.claim(worker)
    assert shown(task_id, "state", "worker_id") == ("queued", worker)
    told(db, worker, [again.id])
    assert shown(task_id, "state", "attempt") == ("running", 1)


def test_progress_is_that_of_the_run_that_goes_on(db: Session, shown: Any) -> None:
    """What an earlier run reported is not how far this one is."""
    worker, task_id = db.register(), db.enqueue()
    (run,) = db.claim(worker)
    told(db, worker, [run.id])
    report = "INSERT INTO pipeline.progress (task_id, run, percent, note, step, done, total, began_at, began_percent, reported_at)"
    db.ask(f"{report} VALUES (%s, 1, 40, 'so far', 'rows', 40, 100, now() - interval '40 s', 0, now())", run.id)

    progress, note, step, done, total, left = shown(
        task_id, "progress", "note", "step", "done", "total", "extract(epoch FROM expected_at - progress_at)::int"
    )
    assert (progress, note, step, done, total, left) == (40, "so far", "rows", 40, 100, 60)

    db.exchange(worker, [Outcome(run, "r", {"delay": 0, "patch": {}})], done=[run.claim])
    (again,) = db.claim(worker)
    told(db, worker, [again.id])
    assert shown(task_id, "progress", "note", "expected_at") == (0, "", None)


def test_labels_and_parent_are_columns(db: Session, shown: Any, rows: Rows) -> None:
    parent, child = db.enqueue(), db.enqueue()
    labels = '{"tags": ["a", "b"], "entity": "invoice:4711", "tenant": "acme", "correlation_id": "x"}'
    rows(
        "UPDATE pipeline.task SET labels = %s, parent = pipeline.find_task_v1(%s) WHERE message_id = %s RETURNING 1",
        *(labels, parent, child),
    )

    columns = ("tags", "entity", "tenant", "correlation_id", "parent_id::text")
    assert shown(child, *columns) == (["a", "b"], "invoice:4711", "acme", "x", parent)
    assert shown(parent, *columns) == ([], None, None, None, None)


def test_an_unknown_id_is_unknown(rows: Rows) -> None:
    assert rows("SELECT FROM pipeline.task_status WHERE task_id = %s", str(uuid4())) == []


def test_times_are_aware(db: Session, shown: Any) -> None:
    (created,) = shown(db.enqueue(), "created_at")

    assert isinstance(created, datetime)
    assert created.tzinfo is not None
