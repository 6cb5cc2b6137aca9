"""How much Python takes: our SQL under pgbench, and what of its rate real workers reach."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import psycopg2

from tests.benchmarks import measure
from tests.benchmarks.ceiling import BARE, SEND, Ceiling
from tests.benchmarks.measure import Side
from tests.benchmarks.page import Section

_SIZES = (1, 8, 32, 256)
_CLIENTS = (1, 2)
#: No more exchanges than that in one measurement: those of one task are slow.
_EXCHANGES = 4_000

_NOTE = (
    "Share: the drain rate of 2 worker processes divided by that of 2 pgbench clients which exchange as many tasks at a time. "
    "The rest is Python, and what it takes from PostgreSQL's cores."
)


@dataclass(frozen=True)
class Round:
    """One drain by workers, and the same exchanges without Python, minutes apart at most."""

    drain: float
    #: Tasks in an exchange of the drain, on average.
    batch: int
    ceiling: float

    @property
    def share(self) -> float:
        return self.drain / self.ceiling


def ceiling_section(server_url: str, tasks: int, seconds: int) -> Section:
    """Measure bare inserts, sends, and exchanges of several sizes."""
    side, rates = Side("ours", server_url), dict[str, list[float]]()
    with side.database():
        ceiling = Ceiling(side.url)
        columns = "(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json)"
        measure.execute(side.url, f"CREATE TABLE bare {columns}")
        for name, script in (("bare INSERT + COMMIT", BARE), ("enqueue one + COMMIT", SEND)):
            rates[name] = [ceiling.rate(script, clients=clients, seconds=seconds) for clients in _CLIENTS]
        for size in _SIZES:
            rates[f"outcome + claim, {size} at a time: tasks"] = [
                _cycle_rate(side, ceiling, size, clients, tasks) for clients in _CLIENTS
            ]
    rows = [[name, *(f"{rate:,.0f}" for rate in each)] for name, each in rates.items()]
    return Section("The ceiling: our SQL under pgbench", ["per second", "1 client", "2 clients"], rows, rates)


def _cycle_rate(side: Side, ceiling: Ceiling, size: int, clients: int, tasks: int) -> float:
    tasks = max(min(tasks, _EXCHANGES * size), 4 * size * clients)
    side.run("fill", tasks + size)
    return ceiling.cycle_rate(size, clients=clients, tasks=tasks)


def share_section(server_url: str, tasks: int, rounds: int) -> Section:
    """Measure drains beside the ceiling, by turns."""
    measured = [_round(Side("ours", server_url), tasks) for _ in range(rounds)]
    shares = [each.share for each in measured]
    low, high = measure.median_interval(shares)
    drain, batch, ceiling = (
        statistics.median(getattr(each, name) for each in measured) for name in ("drain", "batch", "ceiling")
    )
    share = f"{statistics.median(shares):.2f} ({low:.2f}–{high:.2f})"
    rows = [[f"{drain:,.0f}", f"{batch:,.0f}", f"{ceiling:,.0f}", share]]
    head = ["drain/s", "tasks per exchange", "ceiling/s of such exchanges", "share (interval)"]
    data = [vars(each) | {"share": each.share} for each in measured]
    return Section("Our share of the ceiling", head, rows, data, _NOTE)


def _round(side: Side, tasks: int) -> Round:
    with side.database():
        drain = measure.drain_rate(side, tasks)
        batch = max(1, round(tasks / _claims(side.url)))
        return Round(drain, batch, _cycle_rate(side, Ceiling(side.url), batch, measure.PROCESSES, tasks))


def _claims(url: str) -> int:
    """How many batches have been claimed in a database."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval(pg_get_serial_sequence('pipeline.claim', 'claim_id')) - 1")
            (claims,) = cursor.fetchone() or (1,)
            return int(claims)
    finally:
        connection.close()
