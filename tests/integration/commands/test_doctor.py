"""What the doctor calls well and what not, on a real database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import dramatiq
import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker, cancel, pause_queue
from pipeline.commands import checks
from pipeline.commands.checks import CHECKS, Answer, Patient, Verdict
from pipeline.commands.doctor import Finding, examine, is_well
from pipeline.db.sources import ROOT, render
from pipeline.db.statements import load
from pipeline.settings import Settings
from tests.architecture.tree import doc, table_rows
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
Check = Callable[..., Finding]

#: Some commands are given by the global broker.
pytestmark = pytest.mark.usefixtures("broker")

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


@pytest.fixture
def check(settings: Settings, database_url: str) -> Check:
    """Make one check."""

    def make(name: str, **changed: Any) -> Finding:
        chosen = [each for each in CHECKS if each.__name__ == name]
        (finding,) = examine(database_url, load("pipeline"), settings.model_copy(update=changed), chosen)
        return finding

    return make


@pytest.fixture
def lane(rows: Rows) -> int:
    return int(rows("SELECT pipeline.ensure_lane_v1('mail', 0)")[0][0])


@pytest.fixture
def worker(rows: Rows) -> int:
    return int(rows("SELECT pipeline.register_worker_v1('here', 7, 4, '{mail}', '{}')")[0][0])


@pytest.fixture
def waiting(rows: Rows, lane: int) -> str:
    return str(rows("SELECT pipeline.enqueue('greet', queue => 'mail')")[0][0])


# --- all is well ------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(broker: PostgresBroker) -> Iterator[None]:
    """A system at work: tasks that run, wait, wait at a gate, are delayed, have failed and were cancelled."""
    go_on = Event()

    @pipeline.actor(queue_name="busy", max_retries=1, min_backoff=1, max_backoff=1, broker=broker)
    def work(number: int) -> None:
        if number % 5 == 0:
            raise ValueError(number)

    @pipeline.actor(queue_name="busy", max_running=1, broker=broker)
    def linger() -> None:
        go_on.wait(30)

    with working(broker, queues={"busy"}):
        broker.send_many([work.message(number) for number in range(50)])
        cancel(work.send_with_options(args=(1,), delay=60_000).message_id, who="me")
        work.send_with_options(args=(1,), delay=60_000)
        for _ in range(3):
            linger.send()
        eventually(lambda: broker.hub.runs >= 60, within=20)
        yield
        go_on.set()
        broker.flush("busy")
        broker.join("busy", timeout=20_000)


@pytest.mark.usefixtures("busy")
def test_all_is_well_with_a_system_at_work(settings: Settings, database_url: str) -> None:
    findings = list(examine(database_url, load("pipeline"), settings))

    assert [(each.check, each.verdict, each.found) for each in findings if each.verdict is not OK] == []
    assert [each.check for each in findings] == [each.__name__ for each in CHECKS]
    assert is_well(findings, strict=True)


def test_all_is_well_with_an_empty_database(settings: Settings, database_url: str) -> None:
    assert is_well(list(examine(database_url, load("pipeline"), settings)), strict=True)


def test_every_check_says_what_it_looks_for() -> None:
    assert all((each.__doc__ or "").endswith(".") for each in CHECKS)


def test_every_check_is_documented() -> None:
    section = doc("reference/cli.md").partition("## pipeline doctor")[2].partition("\n## ")[0]

    assert [row[0].strip("`") for row in table_rows(section)[1:]] == [each.__name__ for each in CHECKS]


@pytest.mark.parametrize(
    ("verdicts", "well", "strictly"), [([OK], True, True), ([OK, WARN], True, False), ([WARN, FAIL], False, False)]
)
def test_what_failed_decides_and_with_strict_what_is_warned_of(
    verdicts: list[Verdict], well: bool, strictly: bool
) -> None:
    findings = [Finding("check", "", verdict, "", "") for verdict in verdicts]

    assert (is_well(findings, strict=False), is_well(findings, strict=True)) == (well, strictly)


# --- each check, when it is not ---------------------------------------------------------------------------------------


def test_a_migration_that_is_missing_fails(check: Check, rows: Rows) -> None:
    rows("DELETE FROM pipeline.schema_migration WHERE version = 18")

    finding = check("schema")

    assert (finding.verdict, finding.found) == (FAIL, "missing: 0018_add_stat_total")
    assert finding.remedy == "Run: pipeline migrate"


def test_a_migration_that_was_edited_fails(check: Check, rows: Rows) -> None:
    rows("UPDATE pipeline.schema_migration SET checksum = 'x' WHERE version = 1")

    assert check("schema").verdict is FAIL
    assert "0001_create_core" in check("schema").found


def test_a_function_that_this_code_does_not_know_is_warned_of(check: Check, rows: Rows) -> None:
    rows("INSERT INTO pipeline.schema_file (name, checksum) VALUES ('functions/12_stats.sql', 'newer')")

    assert (check("schema").verdict, check("schema").found) == (WARN, "newer than this code: functions/12_stats.sql")


@pytest.mark.parametrize(("seconds", "verdict"), [(0.5, OK), (-30, WARN), (7200, FAIL)])
def test_clocks_that_differ_are_told(settings: Settings, database_url: str, seconds: float, verdict: Verdict) -> None:
    def with_wrong_clock(patient: Patient) -> Answer:
        """The clock is right."""
        return checks.clock(patient, now=lambda: time.time() + seconds)

    (finding,) = examine(database_url, load("pipeline"), settings, [with_wrong_clock])

    assert finding.verdict is verdict


@pytest.mark.parametrize(("full", "too_full", "verdict"), [(0.0, 1.0, WARN), (0.0, 0.0, FAIL)])
def test_few_free_connections_are_told(
    check: Check, monkeypatch: pytest.MonkeyPatch, full: float, too_full: float, verdict: Verdict
) -> None:
    monkeypatch.setattr(checks, "_FULL", full)
    monkeypatch.setattr(checks, "_TOO_FULL", too_full)

    assert check("connections").verdict is verdict


def test_autovacuum_that_is_off_fails(check: Check, rows: Rows) -> None:
    rows("ALTER TABLE pipeline.ready SET (autovacuum_enabled = off)")

    assert (check("autovacuum").verdict, check("autovacuum").found) == (FAIL, "turned off for the table ready")


def drop_partition(rows: Rows, table: str, ahead: int) -> None:
    rows(f"DO $$ BEGIN EXECUTE 'DROP TABLE pipeline.{table}_w' || (pipeline.week_at(now()) + {ahead}); END $$")


@pytest.mark.parametrize(("ahead", "verdict"), [(2, WARN), (1, WARN), (0, WARN)])
def test_a_partition_that_is_missing_is_warned_of(check: Check, rows: Rows, ahead: int, verdict: Verdict) -> None:
    drop_partition(rows, "attempt", ahead)

    finding = check("partitions")

    assert finding.verdict is verdict
    assert finding.found.startswith("missing: attempt_w")


def test_no_partition_ahead_at_all_fails(check: Check, rows: Rows) -> None:
    drop_partition(rows, "task", 1)
    drop_partition(rows, "task", 2)

    assert check("partitions").verdict is FAIL


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("task", "INSERT INTO pipeline.task SELECT pipeline.first_id(pipeline.week_at(now()) + 5), now(), now(), NULL, gen_random_uuid(), 1, 's', 'a', '{}'"),
        ("attempt", "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) SELECT pipeline.first_id(pipeline.week_at(now()) + 5), 1, 1, 's', now()"),
        ("task_tag", "INSERT INTO pipeline.task_tag SELECT pipeline.first_id(pipeline.week_at(now()) + 5), 'x'"),
        ("task_log", "INSERT INTO pipeline.task_log SELECT pipeline.first_id(pipeline.week_at(now()) + 5), now(), 1, 1, 20, 'x', 'y'"),
    ],
)  # fmt: skip
def test_rows_of_coming_weeks_in_a_default_partition_fail(check: Check, rows: Rows, table: str, row: str) -> None:
    rows(row)

    assert (check("strays").verdict, check("strays").found) == (FAIL, f"rows in the default partition of {table}")


def test_old_rows_in_a_default_partition_are_well(check: Check, rows: Rows) -> None:
    """What was carried lies there."""
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (5, 1, 1, 's', '2020-01-02')"
    )

    assert check("strays").verdict is OK


@pytest.mark.leaves("worker")
@pytest.mark.parametrize(("silent", "verdict"), [(1, OK), (3, WARN), (60, FAIL)])
def test_a_worker_that_does_not_beat_is_told(
    check: Check, rows: Rows, worker: int, silent: float, verdict: Verdict
) -> None:
    rows("UPDATE pipeline.worker SET beat_at = clock_timestamp() - %s * interval '1 s'", silent)

    finding = check("leases", lease_seconds=2.0)

    assert finding.verdict is verdict
    assert verdict is OK or f"worker {worker} (here, pid 7)" in finding.found


@pytest.mark.leaves("claim")
def test_a_claim_without_a_living_worker_fails(check: Check, rows: Rows, lane: int, worker: int) -> None:
    claim = "INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas) VALUES (%s, '{1,2}', '{1,1}', ARRAY[%s, %s], '{now,now}')"
    rows(claim, worker, lane, lane)
    assert check("claims").verdict is OK
    rows("UPDATE pipeline.worker SET state = 'd', ended_at = now()")

    assert (check("claims").verdict, check("claims").found) == (FAIL, f"2 tasks of worker {worker}")


@pytest.fixture
def schedule(rows: Rows) -> None:
    rows(
        """SELECT pipeline.put_schedule_v1('report', '{"kind": "interval", "expression": "60s", "actor": "report"}', NULL, 0, false, 'me', '')"""
    )


def beat(rows: Rows, *failing: str, clock_off: float = 0) -> None:
    """One more daemon is alive."""
    clock = f"clock_timestamp() + {clock_off} * interval '1 s'"
    rows(f"SELECT pipeline.beat_scheduler_v1(NULL, 'here', 7, {clock}, %s::text[])", list(failing))


def test_schedules_without_a_daemon_fail(check: Check, rows: Rows, schedule: None) -> None:
    assert (check("schedulers").verdict, check("schedulers").found) == (FAIL, "schedules: 1, and no daemon")

    beat(rows)
    assert (check("schedulers").verdict, check("schedulers").found) == (OK, "schedules: 1, daemons: 1")
    rows("UPDATE pipeline.scheduler SET beat_at = now() - interval '2 min'")
    assert check("schedulers").verdict is FAIL
    rows("SELECT pipeline.pause_schedule_v1('report', 'me', '')")
    assert check("schedulers").verdict is OK


def test_a_schedule_that_no_daemon_can_fire_fails(check: Check, rows: Rows, schedule: None) -> None:
    beat(rows, "report")
    assert (check("schedulers").verdict, check("schedulers").found) == (FAIL, "due and not fired: report")

    beat(rows)  # another one that can
    assert check("schedulers").verdict is OK


def test_a_daemon_whose_clock_is_wrong_is_warned_of(check: Check, rows: Rows) -> None:
    beat(rows, clock_off=4)
    assert check("schedulers").verdict is OK

    beat(rows, clock_off=-30)
    finding = check("schedulers")
    assert (finding.verdict, finding.found[:35]) == (WARN, "the clock of here, pid 7 is 30.0 s off"[:35])


@pytest.mark.leaves("worker")
def test_a_queue_that_no_worker_serves_fails(check: Check, rows: Rows, waiting: str) -> None:
    assert check("queues").verdict is OK  # for a minute
    rows("UPDATE pipeline.ready SET eta = now() - interval '5 min'")
    finding = check("queues")
    assert (finding.verdict, finding.found[:24]) == (FAIL, "no worker for mail (due ")

    rows("SELECT pipeline.register_worker_v1('here', 7, 4, '{mail}', '{}')")
    assert check("queues").verdict is OK
    rows("UPDATE pipeline.worker SET drain_at = now()")
    assert check("queues").verdict is FAIL
    pause_queue("mail", who="me")
    assert check("queues").verdict is OK


@pytest.mark.parametrize("outcomes", ["", "r", "ri", "l"])
def test_a_task_that_neither_waits_nor_runs_nor_has_ended_fails(
    check: Check, rows: Rows, waiting: str, outcomes: str
) -> None:
    for number, outcome in enumerate(outcomes, 1):
        rows(
            "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
            " SELECT id, %s, %s, %s, now() FROM pipeline.task",
            *(number, number, outcome),
        )
    assert check("tasks").verdict is OK
    rows("DELETE FROM pipeline.ready")

    finding = check("tasks")

    assert (finding.verdict, finding.remedy) == (FAIL, "Run: pipeline repair ready")
    assert finding.found == f"1 tasks neither wait nor run nor ended, such as {waiting}"
    rows("SELECT pipeline.repair_ready_v1()")
    assert check("tasks").verdict is OK


def test_a_task_that_has_ended_is_not_lost(check: Check, rows: Rows, waiting: str) -> None:
    rows("SELECT pipeline.cancel_v1(%s, 'me', '')", waiting)

    assert check("tasks").verdict is OK


def park(rows: Rows, gate: str) -> None:
    rows(
        "INSERT INTO pipeline.parked SELECT id, now() - interval '5 min', lane_id, run, 0, %s FROM pipeline.ready", gate
    )
    rows("DELETE FROM pipeline.ready")


@pytest.mark.parametrize("gate", ["key:x", "actor:greet", "tenant:acme", "order:x", "rate:greet"])
def test_a_task_parked_without_a_reason_fails(
    check: Check, rows: Rows, waiting: str, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_SWEEP_SECONDS", 0.01)
    park(rows, gate)

    assert (check("parked").verdict, check("parked").found) == (FAIL, f"without a reason: 1 at {gate}")


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("key:x", "INSERT INTO pipeline.slot VALUES (1, 1, 'key:x')"),
        ("tenant:acme", "INSERT INTO pipeline.gate (gate, paused_at) VALUES ('tenant:acme', now())"),
        ("order:x", "INSERT INTO pipeline.ordering VALUES (1, 'x')"),
        ("rate:greet", "INSERT INTO pipeline.gate (gate, next_at) VALUES ('rate:greet', now() + interval '1 min')"),
        ("fair:1:x", "SELECT 1"),
    ],
)
def test_a_task_parked_for_a_reason_is_well(check: Check, rows: Rows, waiting: str, gate: str, reason: str) -> None:
    park(rows, gate)
    rows(reason)

    assert check("parked").verdict is OK


def test_a_gate_that_is_opened_meanwhile_is_well(
    check: Check, rows: Rows, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sweeps(Event):
        def wait(self, timeout: float | None = None) -> bool:
            rows("SELECT pipeline.sweep_gates_v1(NULL, 10)")
            return True

    monkeypatch.setattr("pipeline.commands.checks.threading.Event", Sweeps)
    park(rows, "key:x")

    assert check("parked").verdict is OK


def test_a_request_that_outlives_its_task_is_warned_of(check: Check, rows: Rows, waiting: str) -> None:
    ask = "INSERT INTO pipeline.cancel_request (message_id, requested_at, who, reason) VALUES (%s, now() - interval '1 h', 'me', '')"
    rows(ask, waiting)
    assert check("cancels").verdict is OK
    rows("DELETE FROM pipeline.ready")

    assert (check("cancels").verdict, check("cancels").found) == (WARN, "1 of tasks that have ended")


def end_runs(rows: Rows, count: int) -> None:
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT n, 1, 1, 's', date_trunc('minute', now()) - interval '3 min' FROM generate_series(1, %s) n",
        count,
    )


def count_runs(rows: Rows, count: int) -> None:
    rows(
        "INSERT INTO pipeline.stat_minute (minute, succeeded, waits, runs, queue, actor)"
        " VALUES (date_trunc('minute', now()) - interval '3 min', %s, '{}', '{}', 'q', 'a')",
        count,
    )


@pytest.mark.parametrize(
    ("ended", "counted", "verdict"), [(500, 500, OK), (500, 495, OK), (500, 0, FAIL), (500, 400, FAIL), (0, 500, FAIL)]
)
def test_counters_that_disagree_with_what_happened_fail(
    check: Check, rows: Rows, ended: int, counted: int, verdict: Verdict
) -> None:
    end_runs(rows, ended)
    count_runs(rows, counted)

    assert (check("counters").verdict, check("counters").found) == (
        verdict,
        f"{counted} runs counted in five minutes, {ended} found",
    )


def test_counters_may_lack_what_a_killed_worker_had_not_written(check: Check, rows: Rows, worker: int) -> None:
    end_runs(rows, 3000)
    count_runs(rows, 2900)
    assert check("counters").verdict is FAIL
    rows("UPDATE pipeline.worker SET state = 'd', ended_at = now() - interval '3 min'")

    assert check("counters").verdict is OK


def test_counters_may_know_of_more_than_was_looked_at(
    check: Check, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_ATTEMPTS", 100)
    end_runs(rows, 500)
    count_runs(rows, 500)

    assert check("counters").verdict is OK


def test_the_counters_of_a_real_worker_agree(broker: PostgresBroker, check: Check, rows: Rows) -> None:
    @dramatiq.actor
    def work() -> None: ...

    broker.send_many([work.message() for _ in range(100)])
    with working(broker):
        broker.join("default", timeout=20_000)
    for table, column in (("attempt", "finished_at"), ("stat_minute", "minute")):
        rows(f"UPDATE pipeline.{table} SET {column} = {column} - interval '3 min'")

    assert (check("counters").verdict, check("counters").found) == (OK, "100 runs counted in five minutes, 100 found")


@pytest.mark.parametrize(("too_long", "verdict"), [(3600.0, WARN), (0.0, FAIL)])
def test_an_open_transaction_that_pins_the_horizon_is_named(
    check: Check, database_url: str, monkeypatch: pytest.MonkeyPatch, too_long: float, verdict: Verdict
) -> None:
    monkeypatch.setattr(checks, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(checks, "_TOO_LONG_SECONDS", too_long)
    reader = psycopg2.connect(database_url, application_name="a report")
    try:
        with reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT 1 FROM pipeline.queue")

        finding = check("horizon")

        assert finding.verdict is verdict
        assert f"pid {reader.info.backend_pid} a report" in finding.found
        assert "transactions, last statement" in finding.found
        assert "pg_terminate_backend" in finding.remedy
    finally:
        reader.close()


def test_many_dead_rows_are_told(
    check: Check, rows: Rows, connect: Callable[..., Any], lane: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_MANY_DEAD", 10)
    rows("ALTER TABLE pipeline.ready SET (autovacuum_enabled = off)")
    worked = connect(autocommit=True)
    with worked.cursor() as cursor:
        cursor.execute("INSERT INTO pipeline.ready SELECT n, now(), %s, 1 FROM generate_series(1, 100) n", (lane,))
        cursor.execute("DELETE FROM pipeline.ready")
    worked.close()  # a session tells at its end, at the latest, what it has done

    eventually(lambda: check("dead_rows").verdict is WARN)
    monkeypatch.setattr(checks, "_TOO_MANY_DEAD", 50)
    assert (check("dead_rows").verdict, check("dead_rows").found) == (FAIL, "100 in ready")


# --- when it cannot be told -------------------------------------------------------------------------------------------


def test_a_check_that_takes_too_long_says_so_and_the_others_are_made(
    settings: Settings, database_url: str, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.commands.doctor._STATEMENT_SECONDS", 1.0)
    with connect() as other, other.cursor() as locking:
        locking.execute("LOCK TABLE pipeline.claim")

        findings = {each.check: each for each in examine(database_url, load("pipeline"), settings)}

    assert {name for name, each in findings.items() if each.verdict is not OK} == {"claims", "tasks", "cancels"}
    assert (findings["claims"].verdict, findings["claims"].found) == (WARN, "no answer within 1 s")


def test_a_role_that_may_not_look_is_told_so(settings: Settings, database_url: str, rows: Rows) -> None:
    rows(render((ROOT / "roles.sql").read_text(), "pipeline"))
    separator = "&" if "?" in database_url else "?"
    as_reader, as_operator = (
        f"{database_url}{separator}options=-c%20role%3Dpipeline_{role}" for role in ("reader", "operator")
    )

    findings = {each.check: each for each in examine(as_reader, load("pipeline"), settings)}
    assert (findings["claims"].verdict, findings["claims"].found) == (
        WARN,
        "may not look: permission denied for table claim",
    )

    assert {each.verdict for each in examine(as_operator, load("pipeline"), settings)} == {OK}


def test_a_database_that_was_never_migrated_fails_and_says_what_to_do(
    settings: Settings, empty_database_url: str
) -> None:
    findings = {each.check: each for each in examine(empty_database_url, load("pipeline"), settings)}

    assert (findings["schema"].verdict, findings["schema"].remedy) == (FAIL, "Run: pipeline migrate")
    assert (findings["claims"].verdict, findings["claims"].remedy) == (FAIL, "See schema.")
