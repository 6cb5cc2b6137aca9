"""The views that are made of the counters, and the newest failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Rows = Callable[..., list[tuple[Any, ...]]]

BUCKETS = 17


@pytest.fixture
def counted(rows: Rows) -> Callable[..., None]:
    """Write a minute's counters: so many runs, each in the bucket of that number."""

    def count(minutes_ago: int, *, actor: str = "greet", runs: int = 10, failed: int = 0, bucket: int = 8) -> None:
        histogram = [0] * (bucket - 1) + [runs] * (BUCKETS - bucket + 1)
        rows(
            "INSERT INTO pipeline.stat_minute (minute, queue, actor, started, succeeded, failed, wait_ms, run_ms, waits, runs)"
            " VALUES (date_trunc('minute', now()) - %s * interval '1 min', 'mail', %s, %s, %s, %s, %s, %s, %s, %s)",
            *(minutes_ago, actor, runs, runs - failed, failed, 250 * runs, 750 * runs, histogram, histogram),
        )

    return count


def test_throughput_tells_each_minute(rows: Rows, counted: Callable[..., None]) -> None:
    counted(0, failed=3)
    counted(1)

    shown = rows(
        "SELECT queue, actor, started, succeeded, failed, mean_wait_seconds, mean_run_seconds FROM pipeline.throughput ORDER BY minute"
    )

    assert shown == [("mail", "greet", 10, 10, 0, 0.25, 0.75), ("mail", "greet", 10, 7, 3, 0.25, 0.75)]


def test_a_minute_in_which_nothing_ran_has_no_mean(rows: Rows, counted: Callable[..., None]) -> None:
    counted(0, runs=0)

    assert rows("SELECT mean_wait_seconds, mean_run_seconds FROM pipeline.throughput") == [(None, None)]
    assert rows("SELECT DISTINCT failure_rate, p50_run_seconds, mean_run_seconds FROM pipeline.actor_stats") == [
        (None, None, None)
    ]


def test_actor_stats_tell_the_last_hour_and_the_last_day(rows: Rows, counted: Callable[..., None]) -> None:
    counted(5, failed=4)
    counted(90)
    counted(60 * 25, runs=1000)
    counted(5, actor="other", runs=1)

    shown = rows("SELECT period, actor, started, failed, failure_rate FROM pipeline.actor_stats ORDER BY actor, period")

    assert shown == [
        ("day", "greet", 20, 4, 0.2),
        ("hour", "greet", 10, 4, 0.4),
        ("day", "other", 1, 0, 0.0),
        ("hour", "other", 1, 0, 0.0),
    ]


def test_actor_stats_estimate_from_the_histograms(rows: Rows, counted: Callable[..., None]) -> None:
    counted(1, runs=90, bucket=8)  # 0.5 to 1 s
    counted(2, runs=10, bucket=12)  # 10 to 30 s

    ((p50, p95, mean),) = rows(
        "SELECT p50_wait_seconds, p95_run_seconds, mean_run_seconds FROM pipeline.actor_stats WHERE period = 'hour'"
    )

    assert p50 == pytest.approx(0.5 + 0.5 * 50 / 90)
    assert p95 == pytest.approx(10 + 20 * 5 / 10)
    assert mean == 0.75


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0] * BUCKETS, 0.5, None),
        (None, 0.5, None),
        ([4] * BUCKETS, 0.5, 0.0025),
        ([0] * 16 + [3], 0.5, 3600),
        ([0] * 7 + [10] * 10, 1.0, 1.0),
        ([0] * 7 + [10] * 10, 0.0, 0.5),
        ([1] + [2] * 16, 0.75, 0.0075),
    ],
)
def test_a_quantile_lies_within_its_bucket(rows: Rows, counts: Any, share: float, expected: float | None) -> None:
    ((found,),) = rows("SELECT pipeline.histogram_quantile(%s::bigint[], %s)", counts, share)

    assert found == (None if expected is None else pytest.approx(expected))


def test_the_view_reads_every_bucket_there_is(rows: Rows) -> None:
    """They are written out in it, one by one."""
    assert rows("SELECT cardinality(pipeline.histogram_bounds()) + 1") == [(BUCKETS,)]
    ((text,),) = rows("SELECT pg_get_viewdef('pipeline.actor_stats'::regclass)")
    assert f"waits[{BUCKETS}]" in text
    assert f"waits[{BUCKETS + 1}]" not in text


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fail(rows: Rows) -> Callable[..., None]:
    """Let a task fail, so many minutes ago."""
    rows("SELECT pipeline.ensure_lane_v1('mail', 0)")

    def failed(minutes_ago: int, *, actor: str = "greet", kind: str = "ValueError", outcome: str = "f") -> None:
        ((message_id,),) = rows("SELECT pipeline.enqueue(%s, queue => 'mail')", actor)
        ((task_id,),) = rows("SELECT pipeline.find_task_v1(%s)", message_id)
        rows("DELETE FROM pipeline.ready")
        rows(
            "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at, error) VALUES"
            " (%s, 1, 1, %s, now() - %s * interval '1 min', json_build_object('type', %s, 'message', %s))",
            *(task_id, outcome, minutes_ago, kind, f"{minutes_ago} min ago"),
        )

    return failed


def test_failures_are_grouped_by_actor_and_error(rows: Rows, fail: Callable[..., None]) -> None:
    for minutes_ago in (3, 2, 9):
        fail(minutes_ago)
    fail(5, kind="KeyError")
    fail(4, actor="other")
    fail(1, outcome="s")
    fail(1, outcome="r")

    shown = rows(
        "SELECT queue, actor, error_type, failures, error_message, last_seen - first_seen, task_id IS NOT NULL FROM pipeline.failures f"
        " LEFT JOIN (SELECT message_id AS task_id, id FROM pipeline.task) t ON t.task_id = f.last_task_id ORDER BY actor, error_type"
    )

    assert [(*row[:5], round(row[5].total_seconds()), row[6]) for row in shown] == [
        ("mail", "greet", "KeyError", 1, "5 min ago", 0, True),
        ("mail", "greet", "ValueError", 3, "2 min ago", 7 * 60, True),
        ("mail", "other", "ValueError", 1, "4 min ago", 0, True),
    ]


def test_failures_read_the_newest_by_an_index_and_no_history(rows: Rows) -> None:
    plan = "\n".join(line for (line,) in rows("SET enable_seqscan = off; EXPLAIN SELECT * FROM pipeline.failures"))

    assert "attempt_default_outcome_task_id_idx" in plan
    assert "Seq Scan on attempt" not in plan


# --- who may read them ------------------------------------------------------------------------------------------------


def test_a_reader_reads_all_of_it_but_the_error_texts(
    rows: Rows, connect: Callable[..., Any], counted: Callable[..., None]
) -> None:
    from pipeline.db.sources import ROOT, render

    rows(render((ROOT / "roles.sql").read_text(), "pipeline"))
    counted(1)
    with connect(autocommit=True).cursor() as cursor:
        cursor.execute("SET ROLE pipeline_reader")
        cursor.execute("SELECT * FROM pipeline.throughput")
        assert cursor.rowcount == 1
        cursor.execute("SELECT * FROM pipeline.actor_stats")
        assert cursor.rowcount == 2
        cursor.execute(
            "SELECT queue, actor, error_type, failures, first_seen, last_seen, last_task_id FROM pipeline.failures"
        )
