"""Progress as the database has it: soon, seldom, and never backwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker, current_task
from pipeline.progress import Progress
from pipeline.task_queue import update_task_progress
from tests.fixtures.broker import working
from tests.fixtures.scale import tell
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
Write = Callable[..., int]

#: Each statement that writes progress leaves a row.
COUNT_WRITES = """
    CREATE TABLE written (at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN INSERT INTO public.written DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER note_write AFTER INSERT ON pipeline.progress FOR EACH STATEMENT EXECUTE FUNCTION note_write()
"""
ROW = "SELECT run, percent, done, total, step, note FROM pipeline.progress"


@pytest.fixture
def task_id(broker: PostgresBroker) -> str:
    @pipeline.actor
    def nothing() -> None: ...

    return str(nothing.send().message_id)


@pytest.fixture
def write(rows: Rows, task_id: str) -> Write:
    """Write reports as a worker does; what is not given is null."""

    def report(*reports: dict[str, Any]) -> int:
        known = [{"t": task_id, "r": 1, "p": 0, "n": ""} | each for each in reports]
        return int(rows("SELECT pipeline.report_progress_v1(%s)", json.dumps(known))[0][0])

    return report


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


# --- in the database --------------------------------------------------------------------------------------------------


def test_within_a_run_nothing_goes_back_whoever_reports(write: Write, rows: Rows) -> None:
    write({"p": 50, "d": 5, "m": 10, "s": "rows", "n": "half"})
    for less in ({"p": 40, "d": 4, "m": 10, "s": "rows", "n": "late"}, {"p": 49, "n": "late"}):
        assert write(less) == 1
    assert rows(ROW) == [(1, 50, 5, 10, "rows", "half")]

    write({"p": 50, "d": 5, "m": 10, "s": "rows", "n": "still"})
    write({"p": 60, "n": "from elsewhere"})
    assert rows(ROW) == [(1, 60, 5, 10, "rows", "from elsewhere")]


def test_two_reporters_leave_the_greater_of_their_reports(write: Write, rows: Rows, connect: Any, task_id: str) -> None:
    """The second one waits for the first, and looks again then."""
    first, second = connect(), connect()
    report = "SELECT pipeline.report_progress_v1(%s)"

    def text(percent: int) -> str:
        return json.dumps([{"t": task_id, "r": 1, "p": percent, "n": str(percent)}])

    write({"p": 10})
    with first.cursor() as cursor:
        cursor.execute(report, (text(70),))
    with second.cursor() as cursor:
        waiting = threading.Thread(target=cursor.execute, args=(report, (text(60),)))
        waiting.start()
        locks = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        eventually(lambda: rows(locks, second.info.backend_pid))
        first.commit()
        waiting.join(5)
        second.commit()

    assert rows("SELECT percent, note FROM pipeline.progress") == [(70, "70")]


def test_another_step_counts_anew(write: Write, rows: Rows) -> None:
    write({"p": 100, "d": 10, "m": 10, "s": "read"})
    write({"p": 100, "d": 1, "m": 3, "s": "write"})
    assert rows(ROW) == [(1, 100, 1, 3, "write", "")]

    write({"p": 100, "s": "tidy"})
    assert rows(ROW) == [(1, 100, None, None, "tidy", "")]


def test_a_later_run_starts_anew_and_an_earlier_one_is_not_heard_any_more(write: Write, rows: Rows) -> None:
    write({"p": 80, "d": 8, "m": 10, "s": "rows", "n": "first"})
    write({"r": 2, "p": 10, "n": "second"})
    assert rows(ROW) == [(2, 10, None, None, None, "second")]

    assert write({"r": 1, "p": 90, "n": "a zombie"}) == 1
    assert rows(ROW) == [(2, 10, None, None, None, "second")]


def test_of_several_runs_in_one_statement_the_latest_counts(write: Write, rows: Rows) -> None:
    assert write({"p": 80}, {"r": 2, "p": 10}) == 1

    assert rows(ROW)[0][:2] == (2, 10)


def test_a_report_from_outside_counts_for_the_run_that_goes_on(
    broker: PostgresBroker, rows: Rows, gate: threading.Event
) -> None:
    @pipeline.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def work() -> None:
        if current_task().attempt == 1:
            begun.set()
            gate.wait(20)
            raise ConnectionError
        again.wait(20)

    begun, again = threading.Event(), threading.Event()

    task_id = work.send().message_id
    update_task_progress(task_id, 90, "before")
    update_task_progress(task_id, 80, "late")
    assert rows(ROW) == [(1, 90, None, None, None, "before")]
    with working(broker):
        assert begun.wait(10)
        update_task_progress(task_id, 95, "while it runs")
        assert rows(ROW) == [(1, 95, None, None, None, "while it runs")]
        gate.set()
        eventually(lambda: rows("SELECT 1 FROM pipeline.attempt WHERE run = 1"))
        update_task_progress(task_id, 10, "again")
        assert rows(ROW) == [(2, 10, None, None, None, "again")]
        again.set()


@pytest.mark.parametrize("percent", [-1, 101, float("nan"), "half"])
def test_bad_progress_from_outside_is_an_error(task_id: str, percent: Any, rows: Rows) -> None:
    with pytest.raises(ValueError, match="percent is a number from 0 to 100"):
        update_task_progress(task_id, percent)
    with pytest.raises(ValueError, match="note is a text"):
        update_task_progress(task_id, 1, 5)  # type: ignore[arg-type]
    assert rows(ROW) == []


def test_a_note_of_a_megabyte_is_cut_off(task_id: str, rows: Rows) -> None:
    update_task_progress(task_id, 1, "\0\udfff" + "x" * 1_000_000)

    assert rows("SELECT length(note), left(note, 3) FROM pipeline.progress") == [(500, "\N{REPLACEMENT CHARACTER}?x")]


def test_an_unknown_task_is_counted_as_such(write: Write, rows: Rows) -> None:
    assert write({"t": str(uuid4()), "p": 1}, {"p": 2}) == 1
    assert rows("SELECT count(*) FROM pipeline.progress") == [(1,)]


# --- from tasks -------------------------------------------------------------------------------------------------------


def test_a_report_is_visible_while_the_tasks_transaction_is_open(
    broker: PostgresBroker, rows: Rows, gate: threading.Event
) -> None:
    @pipeline.actor(transactional=True, max_retries=0)
    def work() -> None:
        current_task().cursor().execute("CREATE TABLE made_by_the_task ()")
        current_task().report(done=3, total=4, step="rows", note="in the middle")
        gate.wait(20)
        raise ConnectionError

    with working(broker):
        work.send()
        eventually(lambda: rows(ROW) == [(1, 75, 3, 4, "rows", "in the middle")], within=3)
        assert rows("SELECT to_regclass('made_by_the_task')") == [(None,)]
        gate.set()
        eventually(lambda: rows("SELECT 1 FROM pipeline.attempt"))

    assert rows(ROW) == [(1, 75, 3, 4, "rows", "in the middle")]


def test_the_end_is_estimated_from_the_first_report_of_the_run(
    broker: PostgresBroker, rows: Rows, gate: threading.Event
) -> None:
    @pipeline.actor(max_retries=0)
    def work() -> None:
        task = current_task()
        task.report(done=20, total=100)
        eventually(lambda: rows(ROW))
        rows("UPDATE pipeline.progress SET began_at = began_at - interval '10 s'")
        task.report(done=40)
        gate.wait(20)

    with working(broker):
        work.send()
        rest = (
            "SELECT extract(epoch FROM expected_at - progress_at)::float8 FROM pipeline.task_status WHERE progress = 40"
        )
        ((seconds,),) = eventually(lambda: [row for row in rows(rest) if row[0] is not None], within=5)
        gate.set()

    assert seconds == pytest.approx(30, abs=5)  # 60 per cent at 20 in ten seconds and a moment


def test_a_bad_report_fails_its_task_and_nobody_elses_report(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(max_retries=0)
    def work(percent: Any) -> None:
        current_task().report(percent=percent)

    with working(broker, threads=1):
        work.send("half")
        work.send(7)
        eventually(lambda: rows("SELECT percent FROM pipeline.progress") == [(7,)])

    errors = rows("SELECT error_type, error_message FROM pipeline.attempt_history WHERE outcome = 'failed'")
    assert errors == [("ValueError", "percent is a number from 0 to 100, not 'half'")]


def test_ten_thousand_reports_a_second_are_one_statement_a_second(broker: PostgresBroker, rows: Rows) -> None:
    took: dict[str, list[float]] = {"without": [], "with": []}

    @pipeline.actor(max_retries=0)
    def work(how: str) -> None:
        """Do what takes a tenth of a millisecond, again and again, and report it each time."""
        task, total = current_task(), 2_000
        began = time.process_time()
        for row in range(total):
            sum(range(4_000))
            if how == "with":
                task.report(done=row, total=total, note="rows")
        took[how].append(time.process_time() - began)

    rows(COUNT_WRITES)
    started = time.monotonic()
    with working(broker, threads=1):
        for _ in range(5):
            work.send("without")
            work.send("with")
        eventually(lambda: rows("SELECT count(*) FROM pipeline.attempt") == [(10,)], within=60)
    seconds = time.monotonic() - started

    tell(f"a loop with a report each time takes {min(took['with']) / min(took['without']):.3f} times as long")
    assert rows("SELECT count(*) FROM written")[0][0] <= seconds + 2
    assert rows("SELECT count(*), min(done), max(done) FROM pipeline.progress")[0] == (5, 1_999, 1_999)


def test_many_tasks_that_report_share_one_statement_a_second(broker: PostgresBroker, rows: Rows) -> None:
    is_over = threading.Event()

    @pipeline.actor(max_retries=0)
    def work() -> None:
        done = 0
        while not is_over.wait(0.001):
            done += 1
            current_task().report(done=done)

    rows(COUNT_WRITES)
    with working(broker, threads=8):
        for _ in range(8):
            work.send()
        eventually(lambda: rows("SELECT count(*) FROM written")[0][0] >= 4, within=20)
        is_over.set()
        eventually(lambda: rows("SELECT count(*) FROM pipeline.attempt") == [(8,)])

    gaps = rows("SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at))::float8 FROM written ORDER BY at")
    assert min(gap for (gap,) in gaps[1:-1]) > 0.8  # the last is written when the worker ends
    assert rows("SELECT count(*) FROM pipeline.progress") == [(8,)]


def test_a_report_that_could_not_be_written_is_written_later(
    proxied_broker: PostgresBroker, proxy: Any, rows: Rows, gate: threading.Event
) -> None:
    reported = threading.Event()

    @pipeline.actor(max_retries=0)
    def work() -> None:
        current_task().report(percent=10)
        reported.set()
        gate.wait(20)

    with working(proxied_broker):
        work.send()
        assert reported.wait(10)
        eventually(lambda: rows("SELECT percent FROM pipeline.progress") == [(10,)])
        proxy.cut()
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(proxy.url)
        proxied_broker.engine.report_progress(str(uuid4()), 1, Progress(5))
        task = next(iter(proxied_broker.hub.running())).task
        task.report(percent=20)
        proxy.restore()
        eventually(lambda: rows("SELECT percent FROM pipeline.progress") == [(20,)], within=15)
        gate.set()
