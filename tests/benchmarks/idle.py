"""What worker processes cost that have nothing to do: ``./dev bench idle``.

First few processes: connections, statements and processor time of each, and of their master. Then a fleet: what it
costs PostgreSQL, and how many exchanges bring nothing while one producer sends.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.benchmarks import gauge, measure
from tests.benchmarks.gauge import Asked
from tests.benchmarks.masters import Masters, masters
from tests.benchmarks.measure import Side
from tests.benchmarks.outcome import Outcome, options, server, tell
from tests.benchmarks.peers.figures import quantile

_MOST_CONNECTIONS = 2
_MOST_STATEMENTS = 5.0
_MOST_CPU = 0.5  # per cent of a core
_MOST_SERVER_CPU = 10.0
_MOST_EMPTY = 5.0
_PER_SECOND = 100
#: Memory that a process may need, so that a fleet that does not fit is not started.
_PROCESS_MIB = 80
#: Heartbeats come every five seconds; after some of them everybody knows how many there are.
_SETTLE_SECONDS = 15.0


@dataclass(frozen=True)
class Window:
    """What happened while somebody looked."""

    seconds: float
    asked: Asked
    server_seconds: float
    worker_seconds: float
    master_seconds: float


@click.command()
@options
@click.option("--few", type=int, default=2, help="Worker processes of the first part (2).")
@click.option("--fleet", type=int, help="Worker processes of the second part (200; quick: 3; 0 leaves it out).")
@click.option("--seconds", type=float, help="How long to look (60; quick: 3).")
def main(
    *,
    quick: bool,
    few: int,
    fleet: int | None,
    seconds: float | None,
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Measure idle worker processes, run by `pipeline worker`, on a server of this run's own."""
    fleet = (3 if quick else 200) if fleet is None else fleet
    seconds = seconds or (3.0 if quick else 60.0)
    _check_memory(fleet)
    outcome = Outcome("Idle worker processes", {"fleet": str(fleet), "seconds": f"{seconds:g}"})
    outcome.head = ["", "figure"]
    settings = {"max_connections": str(100 + 4 * max(few, fleet)), "track_functions": "all", "autovacuum": "off"}
    with server(directory, outcome, settings) as started:
        postmaster = int((started.data_dir / "cluster" / "postmaster.pid").read_text().partition("\n")[0])
        look = Look(Side("ours", started.url), postmaster, directory, settle=1.0 if quick else _SETTLE_SECONDS)
        for processes in sorted({1, few}):
            _few(outcome, look, processes, seconds)
        if fleet:
            _fleet(outcome, look, fleet, seconds)
    outcome.show()
    outcome.write(json_file, markdown)


def _check_memory(fleet: int) -> None:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / gauge.MIB
    if fleet * _PROCESS_MIB > available:
        message = f"{fleet} processes need some {fleet * _PROCESS_MIB:,} MiB, {available:,.0f} are free: --fleet less"
        raise click.ClickException(message)


class Look:
    """Looks at worker processes and at PostgreSQL for a while."""

    def __init__(self, side: Side, postmaster: int, directory: Path, settle: float) -> None:
        self.side = side
        self._postmaster = postmaster
        self._directory = directory
        self._settle = settle
        self._rest = threading.Event()

    @contextmanager
    def workers(self, processes: int) -> Iterator[Masters]:
        """Run worker processes on a fresh database until they are as idle as they get."""
        with (
            self.side.database(),
            tempfile.TemporaryDirectory(dir=self._directory) as home,
            masters(self.side.url, processes, measure.THREADS, Path(home)) as running,
        ):
            self._rest.wait(self._settle)
            yield running

    @contextmanager
    def window(self, running: Masters) -> Iterator[list[Window]]:
        """Measure what happens in a block; the list gets the window at its end."""
        found: list[Window] = []
        before, started = self._read(running), time.monotonic()
        yield found
        self._rest.wait(1.2)  # sessions report their counters a second late; those from before the block did so, too
        after, seconds = self._read(running), time.monotonic() - started
        took = [one - other for one, other in zip(after[1:], before[1:], strict=True)]
        found.append(Window(seconds, after[0].since(before[0]), *took))

    def idle(self, running: Masters, seconds: float) -> Window:
        with self.window(running) as found:
            self._rest.wait(seconds)
        return found[0]

    def _read(self, running: Masters) -> tuple[Asked, float, float, float]:
        return (
            gauge.asked(self.side.url),
            gauge.server_seconds(self._postmaster),
            sum(map(gauge.cpu_seconds, running.workers)),
            sum(map(gauge.cpu_seconds, running.masters)),
        )


def _few(outcome: Outcome, look: Look, processes: int, seconds: float) -> None:
    with look.workers(processes) as running:
        connections = [gauge.connections(pid, look.side.url) for pid in running.workers]
        of_master = gauge.connections(running.masters[0], look.side.url)
        window = look.idle(running, seconds)
    statements = window.asked.transactions / window.seconds / processes
    cpu = 100 * window.worker_seconds / window.seconds / processes
    name = "1 process" if processes == 1 else f"each of {processes} processes"
    outcome.rows += [
        [f"{name}: connections", f"{max(connections)}; the master has {of_master}"],
        [f"{name}: statements/s", f"{statements:.2f}"],
        [f"{name}: which", _listed(window, processes)],
        [f"{name}: % of a core", f"{cpu:.2f}; the master takes {100 * window.master_seconds / window.seconds:.2f}"],
        [f"{name}: % of a core of PostgreSQL", f"{100 * window.server_seconds / window.seconds / processes:.2f}"],
    ]
    outcome.at_most(f"{name}: connections", _MOST_CONNECTIONS, max(connections))
    outcome.at_most(f"{name}: statements/s", _MOST_STATEMENTS, statements)
    outcome.at_most(f"{name}: processor", _MOST_CPU, cpu, " % of a core")
    outcome.runs[f"{processes} idle"] = _values(window)
    tell(f"{name}: {statements:.2f} statements/s, {cpu:.2f} % of a core")


def _fleet(outcome: Outcome, look: Look, processes: int, seconds: float) -> None:
    tell(f"starting {processes} processes …")
    with look.workers(processes) as running:
        window = look.idle(running, seconds)
        tell(f"… idle: {100 * window.server_seconds / window.seconds:.1f} % of a core of PostgreSQL")
        with look.window(running) as found:
            rate = float(look.side.run("stream", f"{int(seconds * _PER_SECOND)}@{_PER_SECOND}"))
        busy, tasks = found[0], running.done()
        samples = [1000 * sample for counter in running.counters() for sample in counter.samples()]
    idle_cpu, busy_cpu = (100 * each.server_seconds / each.seconds for each in (window, busy))
    empty = busy.asked.empty_exchanges / tasks
    name = f"{processes} processes"
    outcome.rows += [
        [f"{name}: statements/s of each", f"{window.asked.transactions / window.seconds / processes:.2f}"],
        [f"{name}: which, of all", _listed(window, 1)],
        [f"{name}: % of a core of PostgreSQL", f"{idle_cpu:.1f}; with {rate:.0f} sends/s {busy_cpu:.1f}"],
        [f"{name}: % of a core of each", f"{100 * window.worker_seconds / window.seconds / processes:.2f}"],
        [f"{name}: exchanges per task", f"{busy.asked.calls.get('exchange_v1', 0) / tasks:.2f}; empty {empty:.2f}"],
        [f"{name}: ms from send to start", f"p50 {statistics.median(samples):.1f}, p99 {quantile(samples, 0.99):.1f}"],
    ]
    outcome.at_most(f"{name}: PostgreSQL", _MOST_SERVER_CPU, idle_cpu, " % of a core")
    outcome.at_most(f"{name}: empty exchanges per task, {_PER_SECOND} sends/s", _MOST_EMPTY, empty)
    outcome.runs[f"{processes} idle"] = _values(window)
    outcome.runs[f"{processes} with a producer"] = _values(busy) | {"tasks": tasks, "latency_ms": samples}
    tell(f"… with a producer: {empty:.2f} empty exchanges per task")


def _listed(window: Window, processes: int) -> str:
    """The functions that were called from outside, as often per second and process."""
    calls = {name: count for name, count in window.asked.calls.items() if name.endswith("_v1")}
    return ", ".join(f"{name} {count / window.seconds / processes:.2f}" for name, count in calls.items())


def _values(window: Window) -> dict[str, object]:
    return {
        "seconds": window.seconds,
        "transactions": window.asked.transactions,
        "calls": dict(window.asked.calls),
        "claims": window.asked.claims,
        "server_seconds": window.server_seconds,
        "worker_seconds": window.worker_seconds,
        "master_seconds": window.master_seconds,
    }


if __name__ == "__main__":
    main()
