"""Who takes part, what is measured, and what issue and guide ask of us. Nothing here loads a peer's package."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """One column."""

    name: str
    title: str
    short: str
    digits: int = 0
    more_is_better: bool = True


METRICS = (
    Metric("single", "single sends/s", "single/s"),
    Metric("bulk", "bulk sends/s", "bulk/s"),
    Metric("drain", "drain/s", "drain/s"),
    Metric("p50", "idle latency p50, ms", "p50 ms", digits=2, more_is_better=False),
    Metric("p99", "idle latency p99, ms", "p99 ms", digits=2, more_is_better=False),
    Metric("p999", "idle latency p99.9, ms", "p99.9 ms", digits=2, more_is_better=False),
    Metric("send_work", "send + work/s", "send+work/s"),
    Metric("committed", "business rows committed/s", "committed/s"),
)

#: A visit is what is measured in one fresh database; its metrics come from it together.
VISITS = {
    "sends": ("single", "bulk"),
    "drain": ("drain",),
    "live": ("p50", "p99", "p999", "send_work"),
    "committed": ("committed",),
}


@dataclass(frozen=True)
class Peer:
    """One system in one form.

    ``pace`` is about how many tasks it drains in a second, so that all are measured for about as long. What it runs
    with, and why, is ``settings``, for the report.
    """

    name: str
    title: str
    module: str
    visits: tuple[str, ...]
    settings: str
    packages: tuple[str, ...] = ()
    pace: int = 1_000
    bulk: bool = False
    processes: int = 2
    threads: int = 8
    environment: dict[str, str] = field(default_factory=dict)
    in_project: bool = False
    needs_redis: bool = False
    #: Its processes reach the database through PgBouncer.
    needs_pooler: bool = False
    needs_database: bool = True
    #: Its queue is in the memory of each worker, which has to fill it itself.
    in_memory: bool = False


_QUEUE = ("sends", "drain", "live")
_DRAMATIQ = "Dramatiq's default middleware"
_LEAN = "without its Prometheus middleware, which costs it more than the rest of its worker"
_IS_LEAN = {"BENCH_VARIANT": "lean"}
_PGQUEUER = "asyncpg, uvloop, coroutines; from its guide to performance its autovacuum settings and larger batches"
_CELERY = (
    "prefork 8; its guide's settings for short tasks: task_ignore_result, worker_prefetch_multiplier 64, "
    "worker_disable_rate_limits; early acknowledgement (its default: a task is lost with its worker)"
)

PEERS = (
    Peer(
        "bare", "bare psycopg2 INSERT + COMMIT", "bare", ("sends", "live"), "autocommit, prepared", ("psycopg2-binary",),
        processes=0, in_project=True,
    ),
    Peer(
        "ours", "ours", "ours", _QUEUE, "as shipped: history, results, leases, fences", ("dramatiq", "psycopg2-binary"),
        pace=12_000, bulk=True, in_project=True,
    ),
    Peer(
        "ours-pgbouncer", "ours, through PgBouncer", "ours", ("live",), "transaction mode; polling, without LISTEN",
        ("dramatiq", "psycopg2-binary"), pace=12_000, bulk=True, in_project=True, needs_pooler=True,
        environment={"PIPELINE_LISTEN": "false"},
    ),
    Peer(
        "pgqueuer", "pgqueuer", "pgqueuer_async", _QUEUE, f"{_PGQUEUER}; batches of 25, its guide's example",
        ("pgqueuer", "asyncpg", "uvloop", "psycopg"), pace=6_000, bulk=True,
    ),
    Peer(
        "pgqueuer-100", "pgqueuer, batches of 100", "pgqueuer_async", ("drain", "live"), f"{_PGQUEUER}; batches of 100",
        ("pgqueuer", "asyncpg", "uvloop", "psycopg"), pace=8_000, bulk=True, environment={"BENCH_VARIANT": "100"},
    ),
    Peer(
        "procrastinate", "procrastinate", "procrastinate_async", _QUEUE, "coroutines, concurrency 8, tasks kept (default)",
        ("procrastinate", "psycopg"), pace=600, bulk=True,
    ),
    Peer(
        "dramatiq-pg", "dramatiq-pg", "dramatiq_pg_vanilla", _QUEUE, _DRAMATIQ, ("dramatiq-pg", "dramatiq"),
        pace=600, in_project=True,
    ),
    Peer(
        "dramatiq-redis", "Dramatiq + Redis", "dramatiq_redis", _QUEUE, _DRAMATIQ, ("dramatiq", "redis"),
        pace=2_500, needs_redis=True, needs_database=False,
    ),
    Peer(
        "dramatiq-redis-lean", "Dramatiq + Redis, lean", "dramatiq_redis", ("drain", "live"), _LEAN, ("dramatiq", "redis"),
        pace=3_000, needs_redis=True, needs_database=False, environment=_IS_LEAN,
    ),
    Peer(
        "dramatiq-stub", "Dramatiq's worker, in memory", "dramatiq_stub", ("sends", "drain"),
        f"StubBroker, no I/O at all; {_DRAMATIQ}", ("dramatiq",), pace=4_500, in_project=True,
        in_memory=True, needs_database=False,
    ),
    Peer(
        "dramatiq-stub-lean", "Dramatiq's worker, in memory, lean", "dramatiq_stub", ("drain",), f"StubBroker; {_LEAN}",
        ("dramatiq",), pace=8_000, in_project=True, in_memory=True, needs_database=False, environment=_IS_LEAN,
    ),
    Peer(
        "huey-redis", "huey + Redis", "huey_redis", _QUEUE, "threads, blocking reads (defaults)", ("huey", "redis"),
        pace=3_000, needs_redis=True, needs_database=False,
    ),
    Peer(
        "celery-redis", "Celery + Redis", "celery_redis", _QUEUE, _CELERY, ("celery", "redis"),
        pace=900, bulk=True, processes=1, needs_redis=True, needs_database=False,
    ),
    Peer(
        "celery-status", "Celery + Redis + status row", "celery_redis", ("drain", "live"),
        f"{_CELERY}; each task inserts and updates a row in PostgreSQL, as today", ("celery", "redis", "psycopg2-binary"),
        pace=600, processes=1, needs_redis=True, environment={"BENCH_VARIANT": "status"},
    ),
    Peer(
        "by-hand", "hand-written loop", "handwritten", _QUEUE, "psycopg 3, batches of 100, NOTIFY; no history, no retries",
        ("psycopg",), pace=30_000, bulk=True,
    ),
    Peer(
        "bare-parallel", "bare INSERT + COMMIT, in parallel", "bare", ("committed",), "2 processes × 8 threads, prepared",
        ("psycopg2-binary",), in_project=True,
    ),
    Peer(
        "ours-cursor", "ours, transactional, psycopg2 cursor", "ours_transactional", ("committed",),
        "business row, result and acknowledgement in one commit", ("psycopg2-binary",), pace=1_500, bulk=True, in_project=True,
        environment={"BENCH_VARIANT": "cursor"},
    ),
    Peer(
        "ours-session", "ours, transactional, SQLAlchemy session", "ours_transactional", ("committed",),
        "business row, result and acknowledgement in one commit", ("SQLAlchemy",), pace=1_000, bulk=True, in_project=True,
        environment={"BENCH_VARIANT": "session"},
    ),
)  # fmt: skip

PEER = {peer.name: peer for peer in PEERS}
METRIC = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True)
class Goal:
    """What a ratio of two systems in one metric has to be."""

    metric: str
    ours: str
    other: str
    bound: float
    at_least: bool = True

    def is_met_by(self, ratio: float) -> bool:
        return ratio >= self.bound if self.at_least else ratio <= self.bound


@dataclass(frozen=True)
class Limit:
    """What a metric of ours has to stay below by itself. There is one: how long polling may take is no ratio."""

    metric: str
    ours: str
    bound: float

    def is_met_by(self, value: float) -> bool:
        return value < self.bound


LIMITS = (Limit("p50", "ours-pgbouncer", 15),)

GOALS = (
    Goal("single", "ours", "bare", 0.75),
    Goal("bulk", "ours", "pgqueuer", 1.2),
    Goal("drain", "ours", "pgqueuer", 2),
    Goal("drain", "ours", "dramatiq-redis", 5),
    Goal("drain", "ours", "celery-redis", 20),
    Goal("drain", "ours", "dramatiq-stub", 3),
    Goal("p50", "ours", "celery-redis", 1, at_least=False),
    Goal("p99", "ours", "celery-redis", 1, at_least=False),
    Goal("p50", "ours", "dramatiq-pg", 1, at_least=False),
    Goal("p99", "ours", "dramatiq-pg", 1, at_least=False),
    Goal("p999", "ours", "bare", 3, at_least=False),
    Goal("send_work", "ours", "pgqueuer", 2.5),
    Goal("send_work", "ours", "dramatiq-redis", 1),
    Goal("committed", "ours-cursor", "bare-parallel", 0.6),
)
