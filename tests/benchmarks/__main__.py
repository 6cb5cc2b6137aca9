"""The benchmark page: ``./dev bench``. Everything runs on an own durable server; rates are compared within this run."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pipeline import logs
from pipeline.db import embedded
from pipeline.settings import Settings
from tests.benchmarks import measure
from tests.benchmarks.ceiling import BARE, SEND, Ceiling
from tests.benchmarks.measure import Side

#: Drains are short, and one alone says little on a noisy machine.
_PAIRS_PER_ROUND = 4

console = Console(width=100, highlight=False)


@click.command()
@click.option("--tasks", default=40_000, help="Tasks to drain on our side; dramatiq-pg gets a tenth of a tenth.")
@click.option("--rounds", default=3, help="Paired rounds of each comparison; the page shows medians and the range.")
@click.option("--backlog", default=1_000_000, help="Delayed and paused rows for the backlog rounds; 0 leaves them out.")
def main(tasks: int, rounds: int, backlog: int) -> None:
    """Measure our queue beside dramatiq-pg, and our SQL without Python."""
    logs.configure(Settings(log_level="WARNING"))
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
        server = embedded.start(Path(directory) / "server", durable=True)
        try:
            console.print(f"PostgreSQL {server.version}, {measure.PROCESSES} processes × {measure.THREADS} threads\n")
            _ceiling(server.url)
            _comparison(server.url, tasks, rounds)
            if backlog:
                _backlog(server.url, tasks, rounds, backlog)
        finally:
            server.stop()


def _ceiling(server_url: str) -> None:
    side = Side("ours", server_url)
    table = Table("ceiling: our SQL under pgbench", "1 client", "2 clients", title_justify="left")
    with side.database():
        ceiling = Ceiling(side.url)
        measure.execute(
            side.url, "CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json)"
        )
        for name, script in (("bare INSERT + COMMIT /s", BARE), ("enqueue one + COMMIT /s", SEND)):
            table.add_row(name, *(f"{ceiling.rate(script, clients=clients):,.0f}" for clients in (1, 2)))
        side.run("fill", 400_000)
        for size in (1, 8, 32, 256):
            cells = [f"{ceiling.cycle_rate(size, clients=clients, seconds=2):,.0f}" for clients in (1, 2)]
            table.add_row(f"outcome + claim, batches of {size}: tasks/s", *cells)
    console.print(table)


def _comparison(server_url: str, tasks: int, rounds: int) -> None:
    ours, vanilla = Side("ours", server_url), Side("vanilla", server_url)
    table = Table("paired rounds", "ours", "dramatiq-pg", "ratio (range)")

    def compare(name: str, measured: Callable[[Side], float], digits: int = 0) -> None:
        pairs = [(_in_database(ours, measured), _in_database(vanilla, measured)) for _ in range(rounds)]
        ratios = sorted(mine / theirs for mine, theirs in pairs)
        mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        table.add_row(name, f"{mine:,.{digits}f}", f"{theirs:,.{digits}f}", ratio)

    compare("single sends/s", lambda side: float(side.run("send", 2)))
    compare("bulk sends/s", lambda side: float(side.run("fill", tasks if side is ours else tasks // 20)))
    compare("drain/s", lambda side: measure.drain_rate(side, tasks if side is ours else max(tasks // 20, 1000)))
    latencies: dict[Side, list[measure.Latency]] = {ours: [], vanilla: []}
    for _ in range(rounds):
        for side, found in latencies.items():
            with side.database():
                found.append(measure.latency(side, 400))
    for name in ("p50", "p95", "p99"):
        mine, theirs = (statistics.median(getattr(one, name) for one in latencies[side]) for side in (ours, vanilla))
        table.add_row(f"latency {name}, ms", f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}")
    console.print(table)
    with ours.database():
        pairs = [(float(ours.run("send", 2)), measure.bare_insert_rate(ours.url, 2)) for _ in range(rounds)]
    share = statistics.median(mine / bare for mine, bare in pairs)
    console.print(f"single sends are {share:.2f} of bare psycopg2 INSERT + COMMIT ({pairs[0][1]:,.0f}/s)\n")


def _in_database(side: Side, measured: Callable[[Side], float]) -> float:
    with side.database():
        return measured(side)


def _backlog(server_url: str, tasks: int, rounds: int, backlog: int) -> None:
    """Drain by turns in databases that differ in their backlog only, so that each comparison is of neighbours in time."""
    alone, delayed, paused = (Side("ours", server_url, name) for name in ("alone", "delayed", "paused"))
    rates: dict[Side, list[float]] = {alone: [], delayed: [], paused: []}
    with alone.database(), delayed.database(), paused.database():
        measure.add_backlog(delayed.url, backlog, "delayed")
        measure.add_backlog(paused.url, backlog, "paused")
        measure.execute(server_url, "CHECKPOINT")
        for number in range(_PAIRS_PER_ROUND * rounds):
            for side in random.Random(number).sample(list(rates), len(rates)):
                rates[side].append(measure.drain_rate(side, tasks))
    table = Table(f"drain/s beside {backlog:,} other rows", "with", "without", "ratio (95 % interval)")
    for name, side in (("delayed", delayed), ("paused", paused)):
        ratios = [one / other for one, other in zip(rates[side], rates[alone], strict=True)]
        low, high = measure.median_interval(ratios)
        medians = (f"{statistics.median(rates[each]):,.0f}" for each in (side, alone))
        table.add_row(name, *medians, f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})")
    console.print(table)


if __name__ == "__main__":
    main()
