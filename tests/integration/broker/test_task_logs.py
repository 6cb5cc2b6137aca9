"""What tasks log is in the database while they run, and stays there."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import psycopg2
import pytest
from dramatiq.errors import Retry

from pipeline import PostgresBroker, current_task
from pipeline.db.statements import load
from pipeline.settings import Settings
from pipeline.store import task_logs
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.database import query
from tests.fixtures.logs import captured_logs
from tests.fixtures.wait import eventually
from tests.integration.broker.proxy import Proxy

Rows = Callable[..., list[tuple[Any, ...]]]
logger = logging.getLogger("somebodys.actors")


@pytest.fixture
def logged(rows: Rows) -> Callable[[], list[tuple[Any, ...]]]:
    """List run, level and message of all lines."""
    return lambda: rows("SELECT run, level, message FROM pipeline.task_logs ORDER BY id, run, line")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Held until the test, or its end, sets it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def level() -> Iterator[Callable[[int], None]]:
    """Let the process's own log show what is at a level or above it."""
    before = logging.root.level
    yield logging.root.setLevel
    logging.root.setLevel(before)


def quick(url: str, **settings: Any) -> PostgresBroker:
    return PostgresBroker(settings=Settings(database_url=url, **QUICK, **settings))


def test_lines_are_there_while_the_task_runs(broker: PostgresBroker, logged: Any, gate: threading.Event) -> None:
    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.info("begun")
        gate.wait(20)
        logger.warning("done")

    with working(broker):
        talk.send()
        eventually(lambda: logged() == [(1, "info", "begun")], within=5)
        assert not gate.is_set()
        gate.set()
        eventually(lambda: logged() == [(1, "info", "begun"), (1, "warning", "done")], within=5)


def test_the_last_lines_are_there_when_the_worker_has_ended(broker: PostgresBroker, logged: Any) -> None:
    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.info("first and last")

    with working(broker):
        talk.send()
        broker.join("default", timeout=20_000)

    assert logged() == [(1, "info", "first and last")]


@pytest.mark.parametrize("shown", [logging.DEBUG, logging.WARNING, logging.CRITICAL])
def test_info_is_kept_whatever_the_processs_own_log_shows(
    broker: PostgresBroker, logged: Any, level: Any, caplog: pytest.LogCaptureFixture, shown: int
) -> None:
    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.debug("detail")
        logger.info("said")

    level(shown)
    with working(broker):
        talk.send()
        broker.join("default", timeout=20_000)

    assert logged() == [(1, "info", "said")]
    own = [record.message for record in caplog.records if record.name == logger.name]
    assert own == (["detail", "said"] if shown == logging.DEBUG else [])
    assert logging.root.level == shown


def test_lines_are_kept_by_run_and_survive_the_rollback_of_a_failed_one(broker: PostgresBroker, rows: Rows) -> None:
    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1, transactional=True)
    def talk() -> None:
        task = current_task()
        task.cursor().execute("SELECT 1")
        logger.info("attempt %d", task.attempt)
        if task.attempt < 3:
            raise ValueError

    with working(broker):
        talk.send()
        broker.join("default", timeout=20_000)

    found = rows("SELECT run, attempt, line, logger, message FROM pipeline.task_logs ORDER BY run, line")
    assert found == [(n, n, 1, "somebodys.actors", f"attempt {n}") for n in (1, 2, 3)]


def test_a_run_that_does_not_count_is_of_the_attempt_that_it_was_to_be(broker: PostgresBroker, rows: Rows) -> None:
    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)
    def talk() -> None:
        task = current_task()
        logger.info("attempt %d", task.attempt)
        if task.run == 1:
            task.snooze(0)
        if task.run == 2:
            raise Retry(delay=1)

    with working(broker):
        talk.send()
        broker.join("default", timeout=20_000)

    found = rows("SELECT run, attempt, message FROM pipeline.task_logs ORDER BY run")
    assert found == [(1, 1, "attempt 1"), (2, 1, "attempt 1"), (3, 2, "attempt 2")]


def test_async_actors_that_run_at_the_same_time_each_log_for_themselves(broker: PostgresBroker, rows: Rows) -> None:
    @dramatiq.actor(max_retries=0)
    async def talk(number: int) -> None:
        for turn in range(3):
            logger.info("%d %d", number, turn)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(logger.info, "%d in a thread", number)

    with working(broker):
        broker.send_many(talk.message(number) for number in range(4))
        broker.join("default", timeout=20_000)

    found = rows(
        "SELECT array_agg(l.message ORDER BY l.line), min(s.args->>0) FROM pipeline.task_logs l"
        " JOIN pipeline.task_status s ON s.id = l.id GROUP BY l.id ORDER BY 2"
    )
    for number, (messages, argument) in enumerate(found):
        assert argument == str(number)
        assert messages == [*(f"{number} {turn}" for turn in range(3)), f"{number} in a thread"]
    assert len(found) == 4


def test_the_time_of_a_line_is_the_databases(broker: PostgresBroker, rows: Rows, monkeypatch: Any) -> None:
    """The clock of the worker's machine is an hour behind."""

    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.info("now")

    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    with working(broker):
        talk.send()
        broker.join("default", timeout=20_000)

    assert rows(
        "SELECT l.at BETWEEN s.started_at - interval '0.1 s' AND s.finished_at + interval '0.1 s'"
        " FROM pipeline.task_logs l JOIN pipeline.task_status s ON s.id = l.id"
    ) == [(True,)]


def test_what_is_said_too_much_is_counted(database_url: str, logged: Any) -> None:
    with global_broker(quick(database_url, task_log_limit_bytes=1024)) as broker:

        @dramatiq.actor(max_retries=0)
        def talk() -> None:
            for number in range(10_000):
                logger.info("row %d", number)
            logger.error("row 10,000 is bad")

        with working(broker):
            talk.send()
            broker.join("default", timeout=20_000)

    found = logged()
    assert found[0] == (1, "info", "row 0")
    assert found[-1] == (1, "error", "row 10,000 is bad")
    kept = len(found) - 2
    assert found[-2][2].startswith(f"{10_000 - kept:,} lines from here on are left out")


@pytest.mark.parametrize(("setting", "expected"), [("DEBUG", 3), ("warning", 1), ("OFF", 0)])
def test_the_setting_says_from_which_level_on(
    database_url: str, logged: Any, level: Any, setting: str, expected: int
) -> None:
    level(logging.WARNING)
    with global_broker(quick(database_url, task_log_level=setting)) as broker:

        @dramatiq.actor(max_retries=0)
        def talk() -> None:
            logger.debug("detail")
            logger.info("said")
            logger.warning("loud")

        with working(broker):
            talk.send()
            broker.join("default", timeout=20_000)

    assert len([line for line in logged() if line[2] in {"detail", "said", "loud"}]) == expected
    assert logging.root.level == logging.WARNING


def test_off_listens_to_nothing(database_url: str) -> None:
    handlers = logging.root.handlers[:]
    with global_broker(quick(database_url, task_log_level="OFF")) as broker, working(broker):
        assert logging.root.handlers == handlers


def test_a_program_that_configures_its_logging_while_the_worker_runs_is_heard_a_second_later(
    broker: PostgresBroker, logged: Any, level: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a module that is imported by the first task may do: nobody listens at the root logger any more."""

    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.info("said")

    monkeypatch.setattr(logging.root, "handlers", [])
    with working(broker):
        logging.root.handlers.clear()
        level(logging.ERROR)
        eventually(lambda: logging.root.level == logging.INFO, within=5)
        talk.send()
        broker.join("default", timeout=20_000)

    assert (logging.root.handlers, logging.root.level) == ([], logging.ERROR)
    assert logged() == [(1, "info", "said")]


def test_workers_of_two_databases_in_one_process_keep_their_tasks_apart(
    database_url: str, another_database_url: Callable[[], str]
) -> None:
    urls = [database_url, another_database_url()]
    brokers = [quick(url) for url in urls]
    for number, broker in enumerate(brokers):

        @dramatiq.actor(max_retries=0, broker=broker)
        def talk(number: int = number) -> None:
            logger.info("of worker %d", number)

    with working(brokers[0]), working(brokers[1]):
        for broker in brokers:
            broker.enqueue(broker.get_actor("talk").message())
        for broker in brokers:
            broker.join("default", timeout=20_000)
    for broker in brokers:
        broker.close()

    found = [query(url, "SELECT string_agg(message, ',') FROM pipeline.task_logs") for url in urls]
    assert found == ["of worker 0", "of worker 1"]


def test_lines_that_cannot_be_written_now_are_written_later(
    proxy: Proxy, proxied_broker: PostgresBroker, logged: Any, gate: threading.Event
) -> None:
    is_up = threading.Event()

    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        is_up.set()
        gate.wait(20)
        for number in range(3):
            logger.info("while it is away %d", number)

    with captured_logs() as ours, working(proxied_broker):
        talk.send()
        assert is_up.wait(10)
        proxy.cut()
        gate.set()
        eventually(lambda: [each for each in ours if each["event"] == "caretaker.interrupted"], within=15)
        assert logged() == []
        proxy.restore()
        eventually(lambda: len(logged()) == 3, within=15)

    assert logged() == [(1, "info", f"while it is away {number}") for number in range(3)]


def test_lines_whose_writing_was_not_confirmed_are_there_once(
    proxy: Proxy, proxied_broker: PostgresBroker, logged: Any
) -> None:
    @dramatiq.actor(max_retries=0)
    def talk() -> None:
        logger.info("once")

    with captured_logs() as ours, working(proxied_broker):
        proxy.lose_answer_to(b'"m": "once"}]\')')
        talk.send()
        eventually(lambda: [each for each in ours if each["event"] == "caretaker.interrupted"], within=15)
        assert proxy.has_lost.is_set()
        assert logged() == [(1, "info", "once")]
        proxied_broker.join("default", timeout=20_000)

    assert logged() == [(1, "info", "once")]


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.fixture
def write(connect: Any) -> Callable[[str], None]:
    """Write lines as the caretaker does."""
    cursor = connect(autocommit=True).cursor()
    return lambda lines: task_logs.write(load("pipeline"), cursor, lines)


@pytest.fixture
def task_id(rows: Rows) -> int:
    """A task that waits."""
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    rows("SELECT pipeline.enqueue('talk', queue => 'default')")
    return int(rows("SELECT id FROM pipeline.task")[0][0])


def line(task_id: int, number: int, message: str = "x", run: int = 1) -> str:
    return f'{{"t": {task_id}, "r": {run}, "n": {number}, "a": 0.5, "l": 20, "g": "x", "m": "{message}"}}'


def test_lines_of_unknown_tasks_do_not_keep_those_of_others(write: Any, logged: Any, task_id: int) -> None:
    write(f"[{line(1, 1)}, {line(task_id, 1)}, {line(2**62, 1)}]")

    assert logged() == [(1, "info", "x")]


def test_lines_that_are_written_again_are_there_once(write: Any, logged: Any, rows: Rows, task_id: int) -> None:
    """As after a commit whose answer was lost; some came with it, others did not."""
    write(f"[{line(task_id, 1)}]")
    at = rows("SELECT at FROM pipeline.task_logs")
    write(f"[{line(task_id, 1)}, {line(task_id, 2)}]")

    assert logged() == [(1, "info", "x")] * 2
    assert rows("SELECT at FROM pipeline.task_logs WHERE line = 1") == at


def test_the_line_that_counts_counts_on(write: Any, logged: Any, task_id: int) -> None:
    write(f"[{line(task_id, 1, '10 lines')}]")
    write(f"[{line(task_id, 1, '20 lines')}]")

    assert logged() == [(1, "info", "20 lines")]


def test_nobody_waits_for_the_disk(connect: Any, task_id: int) -> None:
    cursor = connect().cursor()
    task_logs.write(load("pipeline"), cursor, f"[{line(task_id, 1)}]")
    cursor.execute("SHOW synchronous_commit")

    assert cursor.fetchone() == ("off",)


def test_a_level_is_named(write: Any, rows: Rows, task_id: int) -> None:
    levels = (0, 10, 15, 20, 25, 30, 40, 50, 99)
    write(
        "[" + ",".join(line(task_id, n + 1).replace('"l": 20', f'"l": {level}') for n, level in enumerate(levels)) + "]"
    )

    names = [name for (name,) in rows("SELECT level FROM pipeline.task_logs ORDER BY line")]
    assert names == ["debug", "debug", "debug", "info", "info", "warning", "error", "critical", "critical"]


def test_a_task_is_looked_up_by_an_index_however_many_there_are(
    connect: Any, rows: Rows, write: Any, task_id: int
) -> None:
    """The plan is made anew for each call here, and must not read the whole history."""
    rows(
        "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
        " SELECT id + g, eta, created_at, gen_random_uuid(), lane_id, origin, actor, payload"
        " FROM pipeline.task, generate_series(1, 20000) g"
    )
    rows("ANALYZE pipeline.task")
    rows("SELECT pg_stat_reset()")
    write("[" + ",".join(line(task_id + n, 1) for n in range(500)) + "]")

    def scans() -> list[tuple[Any, ...]]:
        return rows(
            "SELECT sum(seq_tup_read) FILTER (WHERE relname ~ '^task_w') < 1000, sum(idx_scan) FILTER (WHERE relname ~ '^task_w') >= 500"
            " FROM pg_stat_user_tables WHERE schemaname = 'pipeline'"
        )

    assert eventually(lambda: [found for found in scans() if found[1]], within=10) == [(True, True)]


def test_lines_of_a_task_are_read_by_an_index_however_many_there_are(
    connect: Any, rows: Rows, write: Any, task_id: int
) -> None:
    rows(
        "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
        " SELECT id + g, eta, created_at, gen_random_uuid(), lane_id, origin, actor, payload"
        " FROM pipeline.task, generate_series(1, 20000) g"
    )
    rows(
        "INSERT INTO pipeline.task_log SELECT id, now(), 1, g, 20, 'x', 'y' FROM pipeline.task, generate_series(1, 3) g"
    )
    rows("ANALYZE pipeline.task, pipeline.task_log")
    message_id = str(rows("SELECT message_id FROM pipeline.task WHERE id = %s", task_id)[0][0])
    wanted = {"task_id": message_id, "run": None, "levels": ["info"], "after_run": 0, "after_line": 0, "limit": 100}
    cursor = connect(autocommit=True).cursor()
    cursor.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS) " + load("pipeline")["task_logs"], wanted)
    plan = "\n".join(text for (text,) in cursor.fetchall())

    touched = [text for text in plan.splitlines() if "Seq Scan on task" in text and "never executed" not in text]
    assert [text for text in touched if "_w" in text] == [], plan
    assert len(task_logs.read(load("pipeline"), cursor, message_id)) == 3


def test_lines_are_read_in_pieces(write: Any, connect: Any, rows: Rows, task_id: int) -> None:
    for run in (2, 1):
        write("[" + ",".join(line(task_id, n, f"{run}.{n}", run) for n in (3, 1, 2)) + "]")
    message_id = str(rows("SELECT message_id FROM pipeline.task")[0][0])
    cursor = connect(autocommit=True).cursor()

    def read(**which: Any) -> list[str]:
        return [each.message for each in task_logs.read(load("pipeline"), cursor, message_id, **which)]

    assert read() == ["1.1", "1.2", "1.3", "2.1", "2.2", "2.3"]
    assert read(limit=2) == ["1.1", "1.2"]
    assert read(after=task_logs.Place(1, 2), limit=2) == ["1.3", "2.1"]
    assert read(run=2, after=task_logs.Place(1, 3)) == ["2.1", "2.2", "2.3"]
    assert read(run=2, level="info") == ["2.1", "2.2", "2.3"]
    assert read(level="warning") == []
    with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
        task_logs.read(load("pipeline"), cursor, "no id")
