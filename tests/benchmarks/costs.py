"""What a task costs PostgreSQL: WAL, commits, round trips, dead rows, buffers.

Counted, not timed: by the server's own statistics, which are complete when all processes of a measurement have ended,
and by a relay that sees every statement. Two runs of different size are subtracted, so that what a process does once,
such as registering, is not counted. Autovacuum and full-page images are off meanwhile, for both depend on the hour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg2

from pipeline.db.dsn import Dsn
from tests.benchmarks.measure import Side, execute, wait_done
from tests.benchmarks.page import Section
from tests.fixtures.wait import eventually

#: Tables that a hundredth of the tasks leave a dead row in are told by name.
_NOTABLE = 0.01

_WAL = "SELECT wal_bytes, wal_records, wal_fpi FROM pg_stat_wal"
_DATABASE = "SELECT xact_commit, blks_hit + blks_read FROM pg_stat_database WHERE datname = %s"
#: Of a partitioned table its partitions together: their names begin with it.
_DEAD = """
SELECT coalesce(parent.relname, s.relname), sum(n_tup_del + n_tup_upd)
  FROM pg_stat_user_tables s LEFT JOIN pg_inherits i ON i.inhrelid = s.relid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
 GROUP BY 1
"""


@dataclass(frozen=True)
class Costs:
    """What was spent, in all or per task."""

    wal_bytes: float
    wal_records: float
    #: Images of whole pages; only with full-page writes.
    images: float
    commits: float
    buffers: float
    round_trips: float = 0
    #: Rows that became dead, by table.
    dead: dict[str, float] = field(default_factory=dict)

    @property
    def dead_rows(self) -> float:
        return sum(self.dead.values())

    def combined(self, other: Costs, by: Callable[[float, float], float]) -> Costs:
        """Put two together, number by number."""
        plain = {name: by(value, getattr(other, name)) for name, value in vars(self).items() if name != "dead"}
        tables = self.dead.keys() | other.dead.keys()
        return Costs(**plain, dead={name: by(self.dead.get(name, 0), other.dead.get(name, 0)) for name in tables})


def per_task(small: Costs, large: Costs, tasks: int) -> Costs:
    """What each of the tasks cost that the larger run had more than the smaller one."""
    return large.combined(small, lambda one, other: (one - other) / tasks)


def _row(url: str, question: str, *parameters: object) -> tuple[Any, ...]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(question, parameters or None)
        rows = cursor.fetchall()
    return rows[0] if len(rows) == 1 else tuple(rows)


class Meter:
    """Reads what has been spent in one database of a server that nobody else uses.

    The readings in the database itself come last before and first after, so that the look costs nothing.
    """

    def __init__(self, server_url: str, url: str) -> None:
        self._server_url = server_url
        self._url = url
        self._database = Dsn.parse(url).database

    def spent(self, work: Callable[[], int]) -> Costs:
        """Tell what some work cost, whose processes end with it and which returns its round trips."""
        execute(self._url, "CHECKPOINT")
        dead_before = self._dead()
        before = self._server()
        round_trips = work()
        after = self._server()
        dead = {name: rows - dead_before.get(name, 0) for name, rows in self._dead().items()}
        totals = after.combined(before, lambda one, other: one - other)
        return replace(totals, round_trips=round_trips, dead=dead)

    def _server(self) -> Costs:
        """A process tells its statistics at its end at the latest."""
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: _row(self._server_url, others, self._database) == (0,), within=30)
        return Costs(*map(float, (*_row(self._server_url, _WAL), *_row(self._server_url, _DATABASE, self._database))))

    def _dead(self) -> dict[str, float]:
        with closing(psycopg2.connect(self._url)) as connection, connection.cursor() as cursor:
            cursor.execute(_DEAD)
            return {name: float(rows) for name, rows in cursor.fetchall()}


@contextmanager
def still(server_url: str, *, images: bool = False) -> Iterator[None]:
    """Let the server write nothing of its own accord for a block: no autovacuum, and no images of pages."""
    wanted = {"autovacuum": "off", "full_page_writes": "on" if images else "off"}
    before = {name: _row(server_url, f"SHOW {name}") for name in wanted}
    try:
        for name, value in wanted.items():
            execute(server_url, f"ALTER SYSTEM SET {name} = {value}")
        _reload(server_url, wanted)
        yield
    finally:
        for name in wanted:
            execute(server_url, f"ALTER SYSTEM RESET {name}")
        _reload(server_url, {name: value for name, (value,) in before.items()})


def _reload(server_url: str, expected: dict[str, str]) -> None:
    execute(server_url, "SELECT pg_reload_conf()")
    for name, value in expected.items():
        eventually(lambda name=name, value=value: _row(server_url, f"SHOW {name}") == (value,), within=10)
    execute(server_url, "CHECKPOINT")  # the checkpointer, who decides about images, has read it, too


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Something done to some tasks: what comes before is free."""

    title: str
    side: str
    work: Callable[[Side, int], int]
    #: Tasks of the smaller run.
    size: int
    prepare: Callable[[Side, int], object] = lambda side, tasks: None


def _sent(side: Side, tasks: int) -> int:
    with side.relayed() as relay:
        side.run("send_each", tasks)
        return relay.round_trips


def _sent_in_bulk(side: Side, tasks: int) -> int:
    with side.relayed() as relay:
        side.run("fill", tasks)
        return relay.round_trips


def _worked(side: Side, tasks: int) -> int:
    with side.relayed() as relay:
        with side.workers() as counters:
            wait_done(counters, tasks)
        return relay.round_trips


def _fill(side: Side, tasks: int) -> None:
    side.run("fill", tasks)


def _fill_transactional(side: Side, tasks: int) -> None:
    execute(side.url, "CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json)")
    side.run("fill", tasks, "book")


CASES = (
    Case("single send", "ours", _sent, 1_000),
    Case("bulk send, 5,000 at once", "ours", _sent_in_bulk, 20_000),
    Case("drain", "ours", _worked, 20_000, _fill),
    Case("transactional task, its row included", "ours", _worked, 1_000, _fill_transactional),
    Case("dramatiq-pg: single send", "vanilla", _sent, 500),
    Case("dramatiq-pg: drain", "vanilla", _worked, 500, _fill),
)


def measure_case(server_url: str, case: Case, size: int, *, with_images: bool = True) -> Costs:
    """Tell what a task costs in a case, and how many images of pages it causes right after a checkpoint, if wanted."""
    with still(server_url):
        small, large = (_spent(server_url, case, tasks) for tasks in (size, 2 * size))
    images = math.nan
    if with_images:
        with still(server_url, images=True):
            images = _spent(server_url, case, size).images / size
    return replace(per_task(small, large, size), images=images)


def _spent(server_url: str, case: Case, tasks: int) -> Costs:
    side = Side(case.side, server_url, "costs")
    with side.database():
        case.prepare(side, tasks)
        return Meter(server_url, side.url).spent(lambda: case.work(side, tasks))


HEAD = ["per task", "WAL bytes", "WAL records", "page images", "commits", "round trips", "dead rows", "buffers"]
NOTE = (
    "WAL without images of whole pages; page images: so many per task in a run right after a checkpoint, up to 8 kB each. "
    "Commits count transactions that only read. Buffers: pages of 8 kB looked at in shared memory or read."
)


def section(costs: dict[str, Costs]) -> Section:
    """Make the table."""
    rows = [_cells(title, each) for title, each in costs.items()]
    data = {title: {**vars(c), "images": None if math.isnan(c.images) else c.images} for title, c in costs.items()}
    return Section("What a task costs PostgreSQL", HEAD, rows, data, NOTE)


def _cells(title: str, costs: Costs) -> list[str]:
    images = "–" if math.isnan(costs.images) else f"{costs.images:.3f}"
    wal = [f"{costs.wal_bytes:,.0f}", f"{costs.wal_records:.1f}", images]
    return [title, *wal, f"{costs.commits:.3f}", f"{costs.round_trips:.3f}", _dead_rows(costs), f"{costs.buffers:.1f}"]


def _dead_rows(costs: Costs) -> str:
    notable = [f"{name} {rows:.2f}" for name, rows in costs.dead.items() if rows >= _NOTABLE]
    return f"{costs.dead_rows:.2f}" + (f" ({', '.join(notable)})" if notable else "")
