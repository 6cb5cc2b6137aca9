"""Single measurements, each on a database of its own."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dramatiq_pg
import psycopg2

from pipeline.db import migrate
from pipeline.db.dsn import Dsn
from tests.benchmarks.counter import Counter
from tests.fixtures.wait import eventually

ROOT = Path(__file__).parents[2]
PROCESSES, THREADS = 2, 8


@dataclass(frozen=True)
class Latency:
    """Milliseconds from send to start."""

    p50: float
    p95: float
    p99: float


class Side:
    """One of the systems compared: its module, and how to make its tables."""

    def __init__(self, name: str, server_url: str, database: str = "bench") -> None:
        self.name = name
        self._server_url = server_url
        self._database = f"{database}_{name}"
        self.url = ""

    @contextmanager
    def database(self) -> Iterator[None]:
        """Give the side a fresh database for a block."""
        execute(self._server_url, f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)')
        execute(self._server_url, f'CREATE DATABASE "{self._database}"')
        self.url = Dsn.parse(self._server_url).with_database(self._database).libpq
        if self.name == "vanilla":
            execute(self.url, dramatiq_pg.generate_init_sql())
        else:
            migrate.migrate(self.url, "pipeline")
        execute(self.url, "CHECKPOINT")
        yield

    def run(self, what: str, argument: float | str) -> str:
        """Run a child and return what it printed."""
        return self._start(what, argument).communicate()[0].strip()

    def _start(self, what: str, argument: float | str, counter: Path | None = None) -> subprocess.Popen[str]:
        environment = os.environ | {"DATABASE_URL": self.url, "PYTHONPATH": str(ROOT), "PIPELINE_LOG_LEVEL": "WARNING"}
        if counter is not None:
            environment["BENCH_COUNTER"] = str(counter)
        command = [sys.executable, "-m", "tests.benchmarks.child", what, self.name, str(argument)]
        # What goes wrong in a child is shown; its log is kept down to warnings.
        return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE)

    @contextmanager
    def workers(self, processes: int = PROCESSES) -> Iterator[list[Counter]]:
        """Run worker processes for a block."""
        with tempfile.TemporaryDirectory() as directory:
            paths = [Path(directory) / str(number) for number in range(processes)]
            counters = [Counter.create(path) for path in paths]
            children = [self._start("work", THREADS, path) for path in paths]
            try:
                yield counters
            finally:
                for child in children:
                    child.terminate()
                for child in children:
                    try:
                        child.communicate(timeout=15)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        child.communicate()


def execute(url: str, statement: str, *parameters: object) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement, parameters or None)


def drain_rate(side: Side, tasks: int) -> float:
    """Tasks per second while two processes empty a full queue; completion is counted in the task."""
    side.run("fill", tasks)
    with side.workers() as counters:
        eventually(lambda: sum(counter.read()[0] for counter in counters) >= tasks, within=120, every=0.02)
        reads = [counter.read() for counter in counters if counter.read()[0]]
    first, last = min(read[1] for read in reads), max(read[2] for read in reads)
    return tasks / (last - first)


def median_interval(values: list[float]) -> tuple[float, float]:
    """Give the interval of order statistics that holds the true median with 95 %; the whole range if that is too few."""
    ordered, n = sorted(values), len(values)
    tails = [sum(math.comb(n, i) for i in range(k + 1)) / 2**n for k in range(n // 2)]
    k = sum(tail <= 0.025 for tail in tails)
    return ordered[max(k - 1, 0)], ordered[n - max(k, 1)]


def latency(side: Side, count: int) -> Latency:
    """Milliseconds from send to start, with idle workers and a send every five milliseconds."""
    with side.workers() as counters:
        side.run("pulse", 50)  # everything is up and warm
        eventually(lambda: sum(counter.read()[0] for counter in counters) >= 50, within=60, every=0.02)
        side.run("pulse", count)
        eventually(lambda: sum(counter.read()[0] for counter in counters) >= 50 + count, within=60, every=0.02)
        samples = [1000 * sample for counter in counters for sample in counter.samples()]
    cuts = statistics.quantiles(samples, n=100)
    return Latency(cuts[49], cuts[94], cuts[98])


def bare_insert_rate(url: str, seconds: float) -> float:
    """INSERT + COMMIT of the same payload into one table with a bigint key, prepared, on one connection."""
    execute(url, "CREATE TABLE IF NOT EXISTS bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json)")
    payload = '{"args":[1,"' + "0123456789" * 10 + '"],"kwargs":{},"options":{},"message_timestamp":1700000000000}'
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("PREPARE bare (json) AS INSERT INTO bare (payload) VALUES ($1)")
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            cursor.execute("EXECUTE bare (%s)", (payload,))
            count += 1
        return count / (time.perf_counter() - started)


BACKLOG = """
WITH lane AS (SELECT pipeline.ensure_lane_v1(%(queue)s, 0) AS lane_id),
     added AS (INSERT INTO pipeline.task (id, message_id, lane_id, actor, eta, created_at, origin, payload)
               SELECT pipeline.next_task_id(clock_timestamp()), gen_random_uuid(), lane_id, 'noop',
                      now() + %(ahead)s::interval, now(), 's', '{"args":[1,"x"],"kwargs":{},"options":{}}'
                 FROM lane, generate_series(1, %(count)s)
               RETURNING id, lane_id, eta)
INSERT INTO pipeline.ready (lane_id, eta, id, run) SELECT lane_id, eta, id, 1 FROM added
"""


def add_backlog(url: str, count: int, *, paused: bool) -> None:
    """Add rows that must not cost anything: of a paused queue, or not due for a day."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SET search_path = pipeline")
        queue, ahead = ("paused", "-1 hour") if paused else ("bench", "1 day")
        cursor.execute(BACKLOG, {"queue": queue, "ahead": ahead, "count": count})
        if paused:
            cursor.execute("UPDATE queue SET paused_at = now() WHERE name = 'paused'")
        # The rows are to be measured, not the housekeeping that a million new ones cause once.
        cursor.execute("VACUUM (ANALYZE) pipeline.ready, pipeline.task")
        cursor.execute("CHECKPOINT")
