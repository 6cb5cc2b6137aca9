"""What Prometheus gets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import dramatiq
import psycopg2
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from pipeline import get_broker, pause_queue
from pipeline.integrations import prometheus
from pipeline.settings import Settings
from tests.fixtures.broker import working
from tests.fixtures.process_broker import process_broker

Samples = Callable[..., dict[tuple[str, ...], float]]


def scraped(client: FlaskClient) -> list[Any]:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]


@pytest.fixture
def samples(client: FlaskClient) -> Samples:
    """Scrape; return the values of one metric by the values of their labels."""
    return lambda name: {tuple(s.labels.values()): s.value for s in scraped(client) if s.name == name}


@pytest.fixture
def lane(rows: Any) -> int:
    return int(rows("SELECT pipeline.ensure_lane_v1('mail', 0)")[0][0])


def test_it_is_text_of_the_format_that_prometheus_reads(client: FlaskClient) -> None:
    answer = client.get("/metrics")

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert all(sample.name.startswith("pipeline_") for sample in scraped(client))


def test_depth_and_age_are_told_by_queue_and_state(samples: Samples, rows: Any, lane: int) -> None:
    rows(
        "INSERT INTO pipeline.ready (id, eta, lane_id, run) SELECT n, clock_timestamp() + x * interval '1 s', %s, 1"
        " FROM (VALUES (1, -60), (2, -5), (3, 3600)) v(n, x)",
        lane,
    )
    rows("INSERT INTO pipeline.parked VALUES (4, clock_timestamp() - interval '30 s', %s, 1, 0, 'key:x')", lane)
    pause_queue("mail", who="me")

    assert samples("pipeline_tasks") == {
        ("mail", "scheduled"): 1,
        ("mail", "queued"): 2,
        ("mail", "parked"): 1,
        ("mail", "running"): 0,
    }
    ages = samples("pipeline_oldest_task_seconds")
    assert ages["mail", "queued"] == pytest.approx(60, abs=20)
    assert ages["mail", "parked"] == pytest.approx(30, abs=20)
    assert ages["mail", "running"] == 0
    assert samples("pipeline_queue_paused") == {("mail",): 1}


def test_depth_is_counted_up_to_a_limit(
    samples: Samples, rows: Any, lane: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "_DEPTH_LIMIT", 2)
    rows("INSERT INTO pipeline.ready SELECT n, now() - interval '1 s', %s, 1 FROM generate_series(1, 5) n", lane)

    assert samples("pipeline_tasks")["mail", "queued"] == 2


@pytest.mark.leaves("claim", "worker")
def test_what_a_worker_holds_and_has_not_begun_is_queued(samples: Samples, rows: Any, lane: int) -> None:
    (worker,) = rows("SELECT pipeline.register_worker_v1('here', 1, 4, '{mail}', '{}')")[0]
    rows(
        "INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas)"
        " VALUES (%s, '{1,2,3}', '{1,1,1}', ARRAY[%s, %s, %s], ARRAY[now(), now(), now()])",
        *(worker, lane, lane, lane),
    )
    rows("UPDATE pipeline.worker SET running = '{1}'")

    depth = samples("pipeline_tasks")
    assert (depth["mail", "queued"], depth["mail", "running"]) == (2, 1)
    assert samples("pipeline_workers") == {("alive",): 1, ("draining",): 0, ("stopped",): 0, ("dead",): 0}
    assert (samples("pipeline_worker_threads"), samples("pipeline_worker_running")) == ({(): 4}, {(): 1})
    assert samples("pipeline_claims") == {(): 1}
    assert 0 <= samples("pipeline_oldest_beat_seconds")[()] < 30


@pytest.mark.leaves("claim", "worker")
def test_what_a_silent_worker_holds_is_taken_to_run(samples: Samples, rows: Any, lane: int) -> None:
    claim = (
        "INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas) VALUES (%s, '{1}', '{1}', ARRAY[%s], '{now}')"
    )
    (worker,) = rows("SELECT pipeline.register_worker_v1('here', 1, 4, '{mail}', '{}')")[0]
    rows(claim, worker, lane)
    rows(claim, 99, lane)
    rows("UPDATE pipeline.worker SET beat_at = clock_timestamp() - interval '20 s'")

    depth = samples("pipeline_tasks")
    assert (depth["mail", "queued"], depth["mail", "running"]) == (0, 2)


def test_totals_and_histograms_tell_how_runs_ended(samples: Samples, client: FlaskClient) -> None:
    broker = get_broker()

    @dramatiq.actor(broker=broker, actor_name="scraped", queue_name="scraped", max_retries=0)
    def work(number: int) -> None:
        if number == 0:
            raise ValueError

    broker.send_many([work.message(number) for number in range(4)])
    with working(broker, queues={"scraped"}):
        broker.join("scraped", timeout=20_000)

    ours = ("scraped", "scraped")  # the process may have counted others before
    ended = {key[2]: value for key, value in samples("pipeline_runs_ended_total").items() if key[:2] == ours and value}
    assert ended == {"succeeded": 3, "failed": 1}
    assert samples("pipeline_runs_started_total")[ours] == 4
    for name in ("pipeline_wait_seconds", "pipeline_run_seconds"):
        assert samples(f"{name}_count")[ours] == 4
        assert samples(f"{name}_sum")[ours] > 0
        buckets = [value for key, value in samples(f"{name}_bucket").items() if key[:2] == ours]
        assert buckets == sorted(buckets)
        assert (len(buckets), buckets[-1]) == (17, 4)


def test_totals_only_grow_also_when_old_minutes_are_deleted(samples: Samples, rows: Any) -> None:
    rows(
        "SELECT pipeline.add_stats_v1(json_build_array(json_build_object('minute', '2020-01-01', 'queue', 'q', 'actor', 'a', 'started', 5,"
        " 'succeeded', 5, 'failed', 0, 'retried', 0, 'cancelled', 0, 'skipped', 0, 'interrupted', 0, 'lost', 0, 'wait_ms', 0, 'run_ms', 0,"
        " 'waits', array_fill(5, ARRAY[17]), 'runs', array_fill(5, ARRAY[17]))))"
    )
    before = samples("pipeline_runs_ended_total")

    rows("SELECT * FROM pipeline.purge_v1(28, 100)")

    assert rows("SELECT * FROM pipeline.stat_minute") == []
    assert samples("pipeline_runs_ended_total") == before
    assert before["q", "a", "succeeded"] == 5


def test_it_tells_who_pins_the_horizon(samples: Samples, connect: Callable[..., Any], rows: Any) -> None:
    with connect() as reader, reader.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT 1 FROM pipeline.queue")
        for _ in range(3):
            rows("INSERT INTO pipeline.audit (action, who) VALUES ('x', 'y')")

        assert samples("pipeline_horizon_transactions")[("session",)] >= 3
        assert samples("pipeline_horizon_seconds")[("session",)] > 0


def test_it_tells_what_became_of_the_instants_of_schedules_and_who_fires_them(samples: Samples, rows: Any) -> None:
    for name in ("report", "dunning"):
        definition = '{"kind": "interval", "expression": "60s", "actor": "report"}'
        rows("SELECT pipeline.put_schedule_v1(%s, %s, NULL, 0, %s, 'me', '')", name, definition, name == "dunning")
    counts = (
        '[{"schedule": "report", "outcome": "f", "instants": 5}, {"schedule": "gone", "outcome": "f", "instants": 1}]'
    )
    for _ in range(2):
        rows("SELECT pipeline.beat_scheduler_v1(1, 'here', 7, clock_timestamp(), '{dunning}', %s)", counts)
    rows("INSERT INTO pipeline.scheduler (host, pid, beat_at) VALUES ('there', 8, now() - interval '5 min')")

    assert samples("pipeline_schedules") == {("active",): 1, ("paused",): 1}
    assert samples("pipeline_schedulers") == {("alive",): 1, ("stopped",): 0, ("dead",): 1}
    assert samples("pipeline_schedules_failing") == {(): 1}
    assert samples("pipeline_firings_total") == {
        (name, outcome): 10 * (name == "report" and outcome == "fired")
        for name in ("report", "dunning")
        for outcome in ("fired", "left_out", "missed")
    }


def test_it_tells_dead_rows_and_partitions(samples: Samples) -> None:
    assert samples("pipeline_ready_dead_rows") == {(): 0}
    assert samples("pipeline_partitions_ahead") == {(name,): 2 for name in ("attempt", "task", "task_log", "task_tag")}
    assert 0 < samples("pipeline_scrape_seconds")[()] < 5


def test_a_statement_that_takes_too_long_leaves_its_metrics_out(
    client: FlaskClient, connect: Callable[..., Any]
) -> None:
    with connect() as other, other.cursor() as locking:
        locking.execute("LOCK TABLE pipeline.stat_total")

        found = scraped(client)

    failed = {
        sample.labels["statement"] for sample in found if sample.name == "pipeline_scrape_failures" and sample.value
    }
    assert failed == {"totals"}
    assert {sample.name for sample in found} >= {"pipeline_workers", "pipeline_partitions_ahead"}
    assert not [sample for sample in found if sample.name == "pipeline_runs_started_total"]


def test_a_database_that_refuses_is_unavailable(database_url: str, problem: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with process_broker(f"postgresql://nobody@127.0.0.1:{port}/none"):
        client = create_app(Settings(database_url=f"postgresql://nobody@127.0.0.1:{port}/none")).test_client()

        problem(client.get("/metrics"), 503)


def test_a_database_that_does_not_answer_is_unavailable_within_three_seconds(problem: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        with process_broker(url):
            client = create_app(Settings(database_url=url)).test_client()
            began = time.monotonic()

            problem(client.get("/metrics"), 503)

            assert time.monotonic() - began < 3


def test_a_database_that_falls_silent_is_unavailable_within_three_seconds(
    client: FlaskClient, problem: Any, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement timeout does not count then: here it is off, and a lock stands for the silence."""
    monkeypatch.setattr(prometheus, "_STATEMENT_SECONDS", 0)
    with connect() as other, other.cursor() as locking:
        locking.execute("LOCK TABLE pipeline.stat_total")
        began = time.monotonic()

        problem(client.get("/metrics"), 503)

        assert time.monotonic() - began < 3.2


def test_a_scrape_leaves_no_connection_behind(client: FlaskClient, database_url: str) -> None:
    client.get("/metrics")

    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pipeline metrics' AND state = 'active'"
        )
        assert cursor.fetchone() == (0,)
