"""Maintenance beside everything else: backups, readers for hours, senders and workers all go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from tests.fixtures import dump, ledger
from tests.fixtures.processes import WorkerProcess, worker_processes
from tests.fixtures.scale import IS_LONG, tell
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]

ROUNDS = 20 if IS_LONG else 4
#: What nobody who sends may wait for.
LONGEST_SECONDS = 1.0
QUICK = {"lease_seconds": 10.0, "beat_seconds": 1.0}
TABLES = ("task", "attempt", "task_tag", "task_log")
#: What pg_dump says that began in the very moment in which a week was dropped: it has read its name, and finds it no more.
TOO_LATE = ("does not exist", "could not open relation", "could not obtain lock", "cache lookup failed")

_ENQUEUE = "SELECT pipeline.enqueue('book', json_build_array(%s::int, 0), queue => 'default')"


class Sender(threading.Thread):
    """Sends one entry after the other, each in a transaction of its own, and looks how long that takes."""

    def __init__(self, url: str, entries: Iterator[int]) -> None:
        super().__init__(name="sender", daemon=True)
        self._url = url
        self._entries = entries
        self._is_over = threading.Event()
        self.longest = 0.0
        self.sent = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
                while not self._is_over.wait(0.02):
                    started = time.monotonic()
                    cursor.execute(_ENQUEUE, (next(self._entries),))
                    connection.commit()
                    self.longest = max(self.longest, time.monotonic() - started)
                    self.sent += 1
            connection.close()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error

    def finish(self) -> None:
        self._is_over.set()
        self.join(30)
        assert self.error is None, self.error


class Backup(threading.Thread):
    """Dumps again and again, longer than anybody may wait."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(name="backup", daemon=True)
        self._url = url
        self._folder = folder
        self._is_over = threading.Event()
        self.dumps: list[Path] = []
        self.too_late = 0
        self.error = ""

    def run(self) -> None:
        while not self._is_over.wait(0.3) and not self.error:
            path = self._folder / f"dump-{len(self.dumps)}"
            told = dump.dump(self._url, path, lambda: self._is_over.wait(2 * LONGEST_SECONDS))
            if not told:
                self.dumps.append(path)
            elif any(words in told for words in TOO_LATE):
                self.too_late += 1
            else:
                self.error = told

    def finish(self) -> None:
        self._is_over.set()
        self.join(60)
        assert not self.error, self.error


@contextmanager
def going_on(url: str, entries: Iterator[int]) -> Iterator[tuple[Sender, list[WorkerProcess]]]:
    """Let two worker processes and a sender be at work for a block."""
    with worker_processes(2, "tests.fixtures.ledger_actors", url, threads=4, **QUICK) as processes:
        sender = Sender(url, entries)
        sender.start()
        try:
            yield sender, processes
        finally:
            sender.finish()
            for process in processes:
                process.end()


@pytest.fixture
def url(database_url: str, rows: Rows) -> str:
    rows(ledger.TABLE)
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    return database_url


@pytest.fixture
def fill_week(rows: Rows, entries: Iterator[int]) -> Callable[[int], None]:
    """Fill a week by hand: tasks that wait, some of them retried before, and many that ended."""

    def fill(week: int) -> None:
        for number in range(40):
            entry = None if number % 2 else next(entries)
            rows(
                "WITH made AS ("
                "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
                " SELECT pipeline.first_id(%s) + %s, now(), now() - interval '60 days', gen_random_uuid(), lane_id, 's', 'book',"
                " json_build_object('args', json_build_array(%s::int, 0), 'kwargs', '{}'::json, 'options', '{}'::json,"
                " 'message_timestamp', 0) FROM pipeline.lane WHERE queue = 'default' RETURNING id, lane_id"
                "), tried AS ("
                "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
                " SELECT id, 1, 1, CASE WHEN %s::int IS NULL THEN 's' ELSE 'r' END::\"char\", now() - interval '60 days' FROM made"
                ") INSERT INTO pipeline.ready (lane_id, eta, id, run)"
                " SELECT lane_id, now() + %s * interval '1 s', id, 2 FROM made WHERE %s::int IS NOT NULL",
                week,
                number,
                entry,
                entry,
                1.5 * (number % 4 == 0),
                entry,
            )

    return fill


@pytest.fixture
def entries() -> Iterator[int]:
    return count()


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_weeks_come_and_go_beside_backups_senders_and_workers(
    url: str,
    keeper: Any,
    cursor: Any,
    rows: Rows,
    week: int,
    entries: Iterator[int],
    fill_week: Any,
    tmp_path: Path,
    empty_database_url: str,
) -> None:
    """Nothing is lost or doubled, nobody who sends waits long, and what was dumped meanwhile can be restored."""
    dump.program("pg_restore", url)
    rows(dump.BALLAST)
    backup = Backup(url, tmp_path)
    with going_on(url, entries) as (sender, _):
        backup.start()
        for number in range(ROUNDS):
            old = week - 10 - number
            for table in TABLES:
                eventually(lambda table=table, old=old: is_made(rows, table, old), within=30)
            fill_week(old)
            eventually(lambda: is_dropped(rows, f"task_tag_w{week + 2}"), within=30)
            eventually(lambda: is_in_order(keeper, cursor), within=60)
            dumps = len(backup.dumps)
            eventually(lambda dumps=dumps: len(backup.dumps) > dumps or backup.error, within=60)
        backup.finish()
        sender.finish()
        sent = next(entries)
        eventually(lambda: confirmed(rows) == sent, within=60, every=0.2)

    tell(
        f"{len(backup.dumps)} dumps, {backup.too_late} too late; {sender.sent} sent, the slowest in {sender.longest:.3f} s"
    )
    ledger.check_effects(url, sent)
    # Old tasks that ended before their week was dropped went with it.
    assert rows(
        "SELECT actor, state, count(*) FROM pipeline.task_status WHERE created_at > now() - interval '1 day' GROUP BY 1, 2 ORDER BY 1"
    ) == [
        ("book", "succeeded", sender.sent),
        ("confirm", "succeeded", sent),
    ]
    assert rows("SELECT task_id FROM pipeline.attempt WHERE outcome = 's' GROUP BY 1 HAVING count(*) > 1") == []
    assert sender.longest < LONGEST_SECONDS
    assert {each for (each,) in rows("SELECT pipeline.partition_weeks('pipeline.task')")} == {week, week + 1, week + 2}
    dump.restore(backup.dumps[-1], empty_database_url)
    assert lost_tasks(empty_database_url) == 0


def is_made(rows: Rows, table: str, week: int) -> bool:
    try:
        rows("SELECT pipeline.make_partition_v1(%s, %s)", table, week)
    except errors.LockNotAvailable:  # a backup or a sender was in the way
        return False
    return True


def is_dropped(rows: Rows, table: str) -> bool:
    try:
        rows(f"SET lock_timeout = '50ms'; DROP TABLE IF EXISTS pipeline.{table}")
    except errors.LockNotAvailable:
        return False
    return True


def is_in_order(keeper: Any, cursor: Any) -> bool:
    keeper.run(cursor)
    return bool(keeper.interval_seconds == 600)


def lost_tasks(url: str) -> int:
    """Count tasks that neither wait nor are claimed nor have ended: `pipeline repair ready` would find them."""
    return ledger.count(url, "SELECT pipeline.repair_ready_v1()")


@pytest.mark.timeout(120)
def test_a_reader_for_hours_blocks_no_worker(
    url: str,
    keeper: Any,
    purger: Any,
    cursor: Any,
    rows: Rows,
    connect: Any,
    week: int,
    entries: Iterator[int],
    fill_week: Any,
) -> None:
    """It has read every view and keeps its snapshot, while tasks come and go, weeks shall be made and dropped, and much is purged."""
    for table in TABLES:
        rows("SELECT pipeline.make_partition_v1(%s, %s)", table, week - 10)
    fill_week(week - 10)
    rows("INSERT INTO pipeline.rate_limit SELECT now() - interval '1 min', 1, n::text FROM generate_series(1, 1000) n")
    rows(
        "INSERT INTO pipeline.audit (at, action, who) SELECT now() - interval '1 year', 'x', 'y' FROM generate_series(1, 1000)"
    )
    rows(f"DROP TABLE pipeline.task_tag_w{week + 2}")
    reader = connect()
    reader.set_session(isolation_level="REPEATABLE READ")
    with reader, reader.cursor() as reading:
        for view in views(rows):
            reading.execute(f"SELECT * FROM pipeline.{view}")
            reading.fetchall()

        with going_on(url, entries) as (sender, _):
            eventually(lambda: confirmed(rows) > 0, within=30)
            (since,) = rows("SELECT now()")[0]
            for _ in range(10):
                keeper.run(cursor)
                assert keeper.interval_seconds == 60  # it is in the way, and left alone
                purger.run(cursor)
                done = sender.sent
                eventually(lambda done=done: sender.sent >= done + 20, within=20)
            sender.finish()
            sent = next(entries)
            eventually(lambda: confirmed(rows) == sent, within=60, every=0.2)

        assert sender.longest < LONGEST_SECONDS
        assert slowest_wait(rows, since) < 5
        assert rows("SELECT count(*) FROM pipeline.rate_limit") == [(0,)]
        assert rows("SELECT count(*) FROM pipeline.audit_log") == [(0,)]
        reading.execute("SELECT count(*) FROM pipeline.task_status WHERE state = 'succeeded'")
        assert reading.fetchone() == (20,)  # what it has seen before

    ledger.check_effects(url, sent)
    eventually(lambda: is_in_order(keeper, cursor), within=20)
    assert week - 10 not in {each for (each,) in rows("SELECT pipeline.partition_weeks('pipeline.task')")}


def views(rows: Rows) -> list[str]:
    return [name for (name,) in rows("SELECT viewname FROM pg_views WHERE schemaname = 'pipeline' ORDER BY 1")]


def confirmed(rows: Rows) -> int:
    return int(rows("SELECT count(*) FROM ledger WHERE kind = 'confirmed'")[0][0])


def slowest_wait(rows: Rows, since: datetime) -> float:
    """Give the seconds between the sending of a task and its beginning, of the one that waited longest."""
    waited = "SELECT max(extract(epoch FROM a.started_at - t.eta)) FROM pipeline.attempt a JOIN pipeline.task t ON t.id = a.task_id"
    return float(rows(f"{waited} WHERE t.created_at > %s", since)[0][0])
