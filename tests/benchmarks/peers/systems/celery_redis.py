"""Celery on Redis; with BENCH_VARIANT=status each task also keeps a status row in PostgreSQL."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing

import psycopg2
from celery import Celery, Task, group

from tests.benchmarks.peers.tally import TALLY

KEEPS_STATUS = os.environ.get("BENCH_VARIANT") == "status"

app = Celery("bench", broker=os.environ["REDIS_URL"])
# Its guide "Optimizing" for many short tasks, and its "Tips": no results that nobody wants, no rate limits.
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)

_connections: list[psycopg2.extensions.connection] = []


@app.task(bind=True)
def noop(self: Task, number: int, text: str) -> None:
    _keep(self, "INSERT INTO async_task (task_id, status, name) VALUES (%s, 'started', 'noop')")
    TALLY.add()
    _keep(self, "UPDATE async_task SET status = 'success', ended_at = now() WHERE task_id = %s")


@app.task(bind=True)
def timed(self: Task, sent_at: float) -> None:
    _keep(self, "INSERT INTO async_task (task_id, status, name) VALUES (%s, 'started', 'timed')")
    TALLY.began(sent_at)
    _keep(self, "UPDATE async_task SET status = 'success', ended_at = now() WHERE task_id = %s")


def _keep(task: Task, statement: str) -> None:
    """Write the status in a transaction of its own, on the one connection of this process."""
    if not KEEPS_STATUS:
        return
    if not _connections:
        _connections.append(psycopg2.connect(os.environ["DATABASE_URL"]))
        _connections[0].autocommit = True
    with _connections[0].cursor() as cursor:
        cursor.execute(statement, (task.request.id,))


def set_up() -> None:
    if not KEEPS_STATUS:
        return
    with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(
            "CREATE TABLE async_task (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id uuid UNIQUE NOT NULL,"
            " name text NOT NULL, status text NOT NULL, started_at timestamptz DEFAULT now(), ended_at timestamptz)"
        )


def send_one(number: int, text: str) -> None:
    noop.delay(number, text)


def send_many(count: int, text: str) -> None:
    for first in range(0, count, 1_000):
        group(noop.s(number, text) for number in range(first, min(first + 1_000, count))).apply_async()


def send_timed(sent_at: float) -> None:
    timed.delay(sent_at)


def work(is_over: threading.Event) -> None:
    def stop() -> None:
        is_over.wait()
        os.kill(os.getpid(), signal.SIGQUIT)  # its cold shutdown: nobody needs what it still holds

    threading.Thread(target=stop, daemon=True).start()
    try:
        app.worker_main(
            ["worker", "--pool=prefork", f"--concurrency={os.environ['BENCH_THREADS']}", "--loglevel=WARNING"]
        )
    except SystemExit:
        return
