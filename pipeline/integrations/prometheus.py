"""What Prometheus reads of us: asked of the database when it scrapes, whoever answers it.

So nothing is kept in any process, it does not matter which of several web servers is asked, and no worker has a port. A
scrape is a handful of cheap statements, each in a transaction of its own with a time limit; one that fails leaves its
metrics out and is told by ``pipeline_scrape_failures``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2

from pipeline.db.connection import connect
from pipeline.db.dsn import Dsn
from pipeline.errors import DatabaseUnavailable
from pipeline.integrations.exposition import Family, render
from pipeline.logger import get_logger
from pipeline.store import metrics

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.db.pool import Pool

#: A scrape ends within three seconds, also if nobody answers.
_CONNECT_SECONDS = 2
_SCRAPE_SECONDS = 2.5
_STATEMENT_SECONDS = 1.0
#: Tasks counted in one lane and state, at most: 0.1 s.
_DEPTH_LIMIT = 1_000_000

_OUTCOMES = ("succeeded", "failed", "retried", "cancelled", "skipped", "interrupted", "lost")

log = get_logger(__name__)

Families = Iterator[Family]


def scrape(pool: Pool, url: str, sql: Mapping[str, str]) -> str:
    """Ask everything, and write it as Prometheus reads it.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    began = time.monotonic()
    families: list[Family] = []
    failures = Family("pipeline_scrape_failures", "gauge", "Whether the statement failed or took too long.")
    # A connection of its own: those of the pool may all be in use just when somebody wants to know why.
    own = connect(url, within=_CONNECT_SECONDS, application_name="pipeline metrics")
    with closing(own) as connection, pool.within(connection, _SCRAPE_SECONDS):
        for name, ask in _PARTS.items():
            try:
                families += _asked(connection, sql, ask)
                failures.add(0, statement=name)
            except psycopg2.Error as error:
                if connection.closed:
                    raise DatabaseUnavailable(Dsn.parse(url).endpoint, str(error).strip()) from error
                log.warning("scrape.incomplete", statement=name, error=str(error).strip())
                failures.add(1, statement=name)
    duration = Family("pipeline_scrape_seconds", "gauge", "How long it took to ask all of this.")
    duration.add(time.monotonic() - began)
    return render([*families, failures, duration])


def _asked(connection: Connection, sql: Mapping[str, str], ask: Callable[..., Families]) -> list[Family]:
    with connection, connection.cursor() as cursor:
        metrics.limit_time(sql, cursor, _STATEMENT_SECONDS)
        families = list(ask(sql, cursor))
        metrics.limit_time(sql, cursor, 0)  # psycopg2 takes a transaction for ended whose COMMIT ran out of time
        return families


def _depths(sql: Mapping[str, str], cursor: Any) -> Families:
    tasks = Family("pipeline_tasks", "gauge", "Tasks that wait or run; counted up to a million in each lane.")
    oldest = Family(
        "pipeline_oldest_task_seconds", "gauge", "For how long the oldest task has been due (running: claimed)."
    )
    paused = Family("pipeline_queue_paused", "gauge", "Whether nothing is claimed from the queue.")
    for row in metrics.depths(sql, cursor, limit=_DEPTH_LIMIT):
        for state in ("scheduled", "queued", "parked", "running"):
            tasks.add(getattr(row, state), queue=row.queue, state=state)
        for state in ("queued", "parked", "running"):
            oldest.add(getattr(row, f"{state}_seconds"), queue=row.queue, state=state)
        paused.add(row.is_paused, queue=row.queue)
    yield from (tasks, oldest, paused)


def _totals(sql: Mapping[str, str], cursor: Any) -> Families:
    started = Family("pipeline_runs_started_total", "counter", "Runs that began and have ended.")
    ended = Family("pipeline_runs_ended_total", "counter", "Runs that ended, by outcome.")
    waits = Family("pipeline_wait_seconds", "histogram", "From when a run was due until it began.")
    runs = Family("pipeline_run_seconds", "histogram", "How long runs took.")
    bounds = metrics.bounds(sql, cursor)
    for row in metrics.totals(sql, cursor):
        labels = {"queue": row.queue, "actor": row.actor}
        started.add(row.started, **labels)
        for outcome in _OUTCOMES:
            ended.add(getattr(row, outcome), **labels, outcome=outcome)
        waits.add_histogram(bounds, row.waits, row.wait_seconds, **labels)
        runs.add_histogram(bounds, row.runs, row.run_seconds, **labels)
    yield from (started, ended, waits, runs)


def _fleet(sql: Mapping[str, str], cursor: Any) -> Families:
    found = metrics.fleet(sql, cursor)
    workers = Family("pipeline_workers", "gauge", "Worker processes; stopped and dead ones of the last hour.")
    for state in ("alive", "draining", "stopped", "dead"):
        workers.add(getattr(found, state), state=state)
    yield workers
    for name, value, text in (
        ("pipeline_worker_threads", found.threads, "Threads of the workers that are alive."),
        ("pipeline_worker_running", found.running, "Tasks that have begun in them."),
        ("pipeline_oldest_beat_seconds", found.oldest_beat_seconds, "Since the oldest beat of a worker that is alive."),
        ("pipeline_claims", found.claims, "Batches of tasks that workers hold."),
    ):
        yield _gauge(name, value, text)


def _schedulers(sql: Mapping[str, str], cursor: Any) -> Families:
    found = metrics.schedulers(sql, cursor)
    schedules = Family("pipeline_schedules", "gauge", "Schedules, by whether they are paused.")
    for state in ("active", "paused"):
        schedules.add(getattr(found, state), state=state)
    daemons = Family("pipeline_schedulers", "gauge", "Scheduler daemons; stopped and dead ones of the last hour.")
    for state in ("alive", "stopped", "dead"):
        daemons.add(getattr(found, state), state=state)
    firings = Family("pipeline_firings_total", "counter", "Due instants that were dealt with, by outcome.")
    for row in metrics.firings(sql, cursor):
        for outcome in ("fired", "left_out", "missed"):
            firings.add(getattr(row, outcome), schedule=row.schedule, outcome=outcome)
    failing = _gauge(
        "pipeline_schedules_failing", found.failing, "Schedules that are due and that a daemon cannot fire."
    )
    yield from (schedules, failing, daemons, firings)


def _horizon(sql: Mapping[str, str], cursor: Any) -> Families:
    age = Family("pipeline_horizon_transactions", "gauge", "For how many transactions dead rows must be kept.")
    seconds = Family("pipeline_horizon_seconds", "gauge", "Since when the oldest transaction makes the server do so.")
    holders = metrics.horizon(sql, cursor)
    for kind in ("session", "prepared", "slot"):
        mine = [holder for holder in holders if holder.kind == kind]
        age.add(max((holder.age or 0 for holder in mine), default=0), holder=kind)
        if kind != "slot":  # nobody notes since when a slot does
            seconds.add(max((holder.seconds or 0.0 for holder in mine), default=0.0), holder=kind)
    yield from (age, seconds)


def _dead_rows(sql: Mapping[str, str], cursor: Any) -> Families:
    yield _gauge(
        "pipeline_ready_dead_rows", metrics.dead_rows(sql, cursor), "Dead rows among those that wait, as last noticed."
    )


def _partitions(sql: Mapping[str, str], cursor: Any) -> Families:
    ahead = Family("pipeline_partitions_ahead", "gauge", "Weeks after this one that have their partition.")
    for table, weeks in metrics.partitions_ahead(sql, cursor).items():
        ahead.add(weeks, table=table)
    yield ahead


def _gauge(name: str, value: float, text: str) -> Family:
    family = Family(name, "gauge", text)
    family.add(value)
    return family


_PARTS: dict[str, Callable[..., Families]] = {
    "depths": _depths,
    "totals": _totals,
    "workers": _fleet,
    "schedulers": _schedulers,
    "horizon": _horizon,
    "dead_rows": _dead_rows,
    "partitions": _partitions,
}
