"""What is counted is what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Any

import dramatiq
import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker
from pipeline.broker.tally import BOUNDS
from pipeline.db.statements import load
from pipeline.maintenance.purger import Purger
from pipeline.maintenance.stat_folder import StatFolder
from pipeline.maintenance.tally_writer import TallyWriter
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]

SUMS = """
    SELECT coalesce(sum(succeeded), 0)::int, coalesce(sum(failed), 0)::int, coalesce(sum(retried), 0)::int, coalesce(sum(cancelled), 0)::int,
           coalesce(sum(skipped), 0)::int, coalesce(sum(interrupted), 0)::int, coalesce(sum(lost), 0)::int
      FROM pipeline.{}
"""
TRUTH = (
    "SELECT "
    + ", ".join(f"count(*) FILTER (WHERE outcome = '{letter}')::int" for letter in "sfrckil")
    + " FROM pipeline.attempt"
)


@pytest.fixture
def cursor(connect: Callable[..., Any]) -> Any:
    with connect(autocommit=True).cursor() as cursor:
        yield cursor


@pytest.fixture
def fold(cursor: Any) -> Callable[[], None]:
    """Add what was put aside, as the workers do every ten seconds."""
    return lambda: StatFolder(load("pipeline")).run(cursor)


def row(
    minute: str = "2026-01-01T00:00:00+00:00", *, actor: str = "greet", count: int = 1, **more: Any
) -> dict[str, Any]:
    """A row as a process counts it: so many runs that succeeded after a second."""
    counts = [0] * 7 + [count] * 10
    others = dict.fromkeys(("failed", "retried", "cancelled", "skipped", "interrupted", "lost"), 0)
    ended = {"started": count, "succeeded": count, "wait_ms": 1000 * count, "run_ms": 1000 * count}
    return {"minute": minute, "queue": "mail", "actor": actor, "waits": counts, "runs": counts} | ended | others | more


def add(cursor: Any, *rows: dict[str, Any]) -> None:
    cursor.execute("SELECT pipeline.add_stats_v1(%s)", (json.dumps(rows),))


# --- what workers conclude --------------------------------------------------------------------------------------------


def test_workers_count_every_run_they_conclude(broker: PostgresBroker, rows: Rows, fold: Callable[[], None]) -> None:
    @dramatiq.actor(queue_name="counted", max_retries=1, min_backoff=1, max_backoff=1)
    def work(number: int) -> None:
        if number % 3 == 0:
            raise ValueError(number)

    @pipeline.actor(queue_name="counted", broker=broker, transactional=True)
    def book() -> None:
        """Its transaction concludes it. Safe to run twice."""

    broker.send_many([work.message(number) for number in range(30)] + [book.message() for _ in range(5)])
    with working(broker):
        broker.join("counted", timeout=20_000)

    fold()
    (truth,) = rows(TRUTH)
    assert truth[:3] == (25, 10, 10)
    assert rows(SUMS.format("stat_minute")) == rows(SUMS.format("stat_total")) == [truth]


def test_waits_and_runs_are_in_the_histograms(broker: PostgresBroker, rows: Rows) -> None:
    begins = Event()

    @dramatiq.actor(max_retries=0)
    def linger() -> None:
        begins.wait(0.3)

    linger.send()
    eventually(lambda: rows("SELECT 1 FROM pipeline.ready WHERE eta < clock_timestamp() - interval '0.6 s'"))
    with working(broker):
        broker.join("default", timeout=20_000)

    ((wait_ms, run_ms, waits, runs),) = rows("SELECT wait_ms, run_ms, waits, runs FROM pipeline.stat_total")
    assert 600 < wait_ms < 5000
    assert 300 <= run_ms < 2000
    assert waits[BOUNDS.index(0.5)] == runs[BOUNDS.index(0.25)] == 0
    assert waits[-1] == runs[-1] == 1


def test_a_worker_whose_clock_is_wrong_counts_by_the_databases(
    broker: PostgresBroker, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.broker.tally.time.time", lambda: 0.0)

    @dramatiq.actor
    def greet() -> None: ...

    greet.send()
    with working(broker):
        broker.join("default", timeout=20_000)

    assert rows("SELECT minute > now() - interval '2 min', wait_ms < 20000 FROM pipeline.stat_minute") == [(True, True)]


def test_counters_are_written_every_ten_seconds_and_not_only_at_the_end(
    broker: PostgresBroker, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TallyWriter.interval_seconds == 10
    monkeypatch.setattr(TallyWriter, "interval_seconds", 0.2)

    @dramatiq.actor
    def greet() -> None: ...

    with working(broker):
        greet.send()
        eventually(lambda: rows("SELECT 1 FROM pipeline.stat_minute WHERE succeeded = 1"))


def test_what_cannot_be_written_is_written_next_time(broker: PostgresBroker, cursor: Any, rows: Rows) -> None:
    writer = TallyWriter(broker.tally, load("pipeline"))
    broker.tally.put_back([row()])
    with closing(psycopg2.connect(broker.url)) as gone:
        lost = gone.cursor()
    with pytest.raises(psycopg2.InterfaceError):
        writer.run(lost)

    writer.run(cursor)

    assert rows("SELECT succeeded FROM pipeline.stat_minute") == [(1,)]


def test_a_process_that_has_run_nothing_asks_nothing(broker: PostgresBroker) -> None:
    TallyWriter(broker.tally, load("pipeline")).run(None)


# --- what nobody but the one who concludes it knows -------------------------------------------------------------------


def enqueued(rows: Rows, count: int = 1) -> list[str]:
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    return [rows("SELECT pipeline.enqueue('greet', queue => 'default')::text")[0][0] for _ in range(count)]


def claimed(rows: Rows, count: int = 1) -> int:
    """Register a worker and let it claim; return its id."""
    enqueued(rows, count)
    (worker,) = rows("SELECT pipeline.register_worker_v1('here', 1, 4, '{default}', '{}')")[0]
    rows(
        "SELECT * FROM pipeline.exchange_v1(%s, 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, false, '{}',"
        " '{default}', %s, NULL, NULL)",
        worker,
        count,
    )
    return int(worker)


def cancelled_while_it_waits(rows: Rows) -> None:
    rows("SELECT pipeline.cancel_v1(%s, 'me', '')", enqueued(rows)[0])


def cancelled_with_others(rows: Rows) -> None:
    enqueued(rows, 3)
    rows("SELECT * FROM pipeline.cancel_where_v1('default', NULL, NULL, NULL, 'me', '', NULL, false)")


def flushed(rows: Rows) -> None:
    enqueued(rows, 3)
    rows("SELECT pipeline.flush_v1('default', 'me')")


def rescued(rows: Rows) -> None:
    worker = claimed(rows, 3)
    rows("SELECT pipeline.rescue_v1(%s, 0, 3, (SELECT ids[1:2] FROM pipeline.claim))", worker)


def rescued_as_poison(rows: Rows) -> None:
    rows("SELECT pipeline.rescue_v1(%s, 0, 1)", claimed(rows))


def killed(rows: Rows) -> None:
    worker = claimed(rows, 3)
    rows("SELECT pipeline.end_killed_v1(%s, (SELECT ids[1:1] FROM pipeline.claim), '{1}', 'time_limit')", worker)


def ended_with_claims(rows: Rows) -> None:
    rows("SELECT pipeline.end_worker_v1(%s)", claimed(rows, 2))


def cancelled_while_claimed(rows: Rows) -> None:
    worker = claimed(rows)
    rows("SELECT pipeline.cancel_v1((SELECT message_id FROM pipeline.task), 'me', '')")
    rows("SELECT pipeline.end_worker_v1(%s)", worker)


@pytest.mark.leaves("worker", "claim")
@pytest.mark.parametrize(
    "conclude",
    [
        cancelled_while_it_waits,
        cancelled_with_others,
        flushed,
        rescued,
        rescued_as_poison,
        killed,
        ended_with_claims,
        cancelled_while_claimed,
    ],
)
def test_what_ends_without_a_worker_is_counted(
    rows: Rows, fold: Callable[[], None], conclude: Callable[[Rows], None]
) -> None:
    conclude(rows)
    fold()

    (truth,) = rows(TRUTH)
    assert sum(truth) > 0
    assert rows(SUMS.format("stat_minute")) == rows(SUMS.format("stat_total")) == [truth]
    assert rows("SELECT DISTINCT queue, actor FROM pipeline.stat_total") == [("default", "greet")]
    assert rows("SELECT count(*) FROM pipeline.stat_aside") == [(0,)]


def test_a_long_transaction_that_cancels_holds_nobody_up(connect: Callable[..., Any], rows: Rows, cursor: Any) -> None:
    """It must not lock a counter that every worker adds to."""
    (task_id,) = enqueued(rows)
    add(cursor, row(actor="greet", queue="default"))
    with connect() as open_transaction, open_transaction.cursor() as cancelling:
        cancelling.execute("SELECT pipeline.cancel_v1(%s, 'me', '')", (task_id,))

        cursor.execute("SET statement_timeout = '5s'")
        add(cursor, row(actor="greet", queue="default"))
        StatFolder(load("pipeline")).run(cursor)
        assert rows(SUMS.format("stat_total"))[0][3] == 0

    StatFolder(load("pipeline")).run(cursor)
    assert rows(SUMS.format("stat_total"))[0][3] == 1


def test_more_than_is_folded_at_once_is_gone_on_with_soon(
    rows: Rows, cursor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.maintenance.stat_folder._LIMIT", 2)
    rows("INSERT INTO pipeline.stat_aside SELECT now(), 1, 1, 'c', 'q', 'a' FROM generate_series(1, 3)")
    folder = StatFolder(load("pipeline"))

    folder.run(cursor)
    assert folder.interval_seconds < 1
    folder.run(cursor)

    assert folder.interval_seconds == 10
    assert rows("SELECT cancelled FROM pipeline.stat_total") == [(3,)]


# --- the counters -----------------------------------------------------------------------------------------------------


def test_rows_of_one_key_are_added_up(cursor: Any, rows: Rows) -> None:
    add(cursor, row(), row(count=2))
    add(cursor, row(count=4))

    ((succeeded, wait_ms, waits),) = rows("SELECT succeeded, wait_ms, waits FROM pipeline.stat_minute")
    assert (succeeded, wait_ms, waits) == (7, 7000, [0] * 7 + [7] * 10)


def test_processes_that_add_the_same_keys_at_once_never_deadlock(database_url: str, rows: Rows) -> None:
    keys = [row(f"2026-01-01T00:0{minute}:00+00:00", actor=f"a{actor}") for minute in range(2) for actor in range(20)]

    def process(number: int) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for turn in range(10):
                at = 3 * number + turn
                add(cursor, *(keys[at:] + keys[:at]) if number % 2 else reversed(keys))

    with ThreadPoolExecutor(6) as executor:
        list(executor.map(process, range(6)))

    assert rows("SELECT DISTINCT succeeded, count(*) FROM pipeline.stat_minute GROUP BY 1") == [(60, 40)]
    assert rows("SELECT DISTINCT succeeded, count(*) FROM pipeline.stat_totals_v1() GROUP BY 1") == [(120, 20)]


def test_totals_do_not_shrink_when_old_minutes_are_purged(settings: Any, cursor: Any, rows: Rows) -> None:
    add(cursor, row("2020-01-01T00:00:00+00:00"), row(rows("SELECT now()::text")[0][0]))

    Purger(settings, ("dramatiq", ""), load("pipeline")).run(cursor)

    assert rows("SELECT sum(succeeded)::int FROM pipeline.stat_minute") == [(1,)]
    assert rows("SELECT sum(succeeded)::int FROM pipeline.stat_total") == [(2,)]


def test_totals_that_nobody_adds_to_any_more_are_joined(settings: Any, cursor: Any, rows: Rows) -> None:
    now = rows("SELECT now()::text")[0][0]
    old = [row(f"2026-01-01T00:{minute}:00+00:00", count=2) for minute in (10, 11, 20, 30)]
    add(cursor, *old, row(now), row(now, actor="other"))
    assert rows("SELECT actor, count(*) FROM pipeline.stat_total GROUP BY 1 ORDER BY 1") == [("greet", 4), ("other", 1)]
    purger = Purger(settings, ("dramatiq", ""), load("pipeline"))

    purger.run(cursor)
    add(cursor, old[0])  # late
    purger.run(cursor)

    assert rows(
        "SELECT actor, since > '-infinity', succeeded, waits[17]::int FROM pipeline.stat_total ORDER BY 1, 2"
    ) == [
        ("greet", False, 10, 10),
        ("greet", True, 1, 1),
        ("other", True, 1, 1),
    ]
    assert rows("SELECT actor, succeeded::int, waits[17]::int, wait_ms FROM pipeline.stat_totals_v1() ORDER BY 1") == [
        ("greet", 11, 11, 11000),
        ("other", 1, 1, 1000),
    ]


def test_who_adds_to_a_total_that_is_joined_meanwhile_loses_nothing(
    connect: Callable[..., Any], cursor: Any, rows: Rows
) -> None:
    add(cursor, row())
    joiner = connect()
    with ThreadPoolExecutor(1) as executor, joiner.cursor() as joining:
        joining.execute("SELECT pipeline.join_totals_v1()")
        adding = executor.submit(add, cursor, row())
        eventually(lambda: rows("SELECT 1 FROM pg_locks WHERE NOT granted"))
        joiner.commit()
        adding.result(5)

    assert rows("SELECT succeeded::int FROM pipeline.stat_totals_v1()") == [(2,)]


def test_old_minutes_are_purged_in_portions(cursor: Any, rows: Rows) -> None:
    add(cursor, *(row("2020-01-01T00:00:00+00:00", actor=f"a{number}") for number in range(5)))

    assert ("stat_minute", 3) in rows("SELECT * FROM pipeline.purge_v1(28, 3)")
    assert rows("SELECT count(*) FROM pipeline.stat_minute") == [(2,)]


def test_python_and_sql_have_the_same_buckets(rows: Rows) -> None:
    assert rows("SELECT pipeline.histogram_bounds()") == [(list(BOUNDS),)]
