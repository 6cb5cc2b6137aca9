"""Us beside dramatiq-pg, a bare INSERT, and a backlog: paired rounds."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence

from tests.benchmarks import measure
from tests.benchmarks.measure import Side
from tests.benchmarks.page import Section

#: Drains are short, and one alone says little on a noisy machine.
_PAIRS_PER_ROUND = 4
#: What dramatiq-pg gets of the tasks, so that both are measured for about as long.
_PART = 20
_HEAD = ["median", "ours", "other", "ratio (interval)"]

Pairs = list[tuple[float, float]]


def beside_section(server_url: str, *, tasks: int, rounds: int, pulses: int, seconds: float) -> Section:
    """Measure sends, drains and latency beside dramatiq-pg, and single sends beside a bare INSERT."""
    ours, vanilla = Side("ours", server_url), Side("vanilla", server_url)
    pairs: dict[str, Pairs] = {}

    def compare(name: str, measured: Callable[[Side], float]) -> None:
        pairs[name] = [(_in_database(ours, measured), _in_database(vanilla, measured)) for _ in range(rounds)]

    def sized(side: Side) -> int:
        return tasks if side is ours else max(tasks // _PART, 500)

    compare("single sends/s", lambda side: float(side.run("send", seconds)))
    compare("bulk sends/s", lambda side: float(side.run("fill", sized(side))))
    compare("drain/s", lambda side: measure.drain_rate(side, sized(side)))
    pairs |= _latencies(ours, vanilla, rounds, pulses)
    with ours.database():
        alone: Pairs = [
            (float(ours.run("send", seconds)), measure.bare_insert_rate(ours.url, seconds)) for _ in range(rounds)
        ]
    rows = [row_of(name, each, digits=2 if name.endswith("ms") else 0) for name, each in pairs.items()]
    rows.append(row_of("single sends/s; bare INSERT + COMMIT", alone))
    return Section("Beside dramatiq-pg", _HEAD, rows, pairs | {"bare": alone})


def _in_database(side: Side, measured: Callable[[Side], float]) -> float:
    with side.database():
        return measured(side)


def _latencies(ours: Side, vanilla: Side, rounds: int, pulses: int) -> dict[str, Pairs]:
    found: list[tuple[measure.Latency, measure.Latency]] = []
    for _ in range(rounds):
        with ours.database():
            mine = measure.latency(ours, pulses)
        with vanilla.database():
            found.append((mine, measure.latency(vanilla, pulses)))
    return {
        f"latency {name}, ms": [(getattr(mine, name), getattr(theirs, name)) for mine, theirs in found]
        for name in ("p50", "p95", "p99")
    }


def row_of(name: str, pairs: Sequence[tuple[float, float]], digits: int = 0) -> list[str]:
    """Write medians, and the median of the ratios within each round with its interval."""
    ratios = [mine / theirs for mine, theirs in pairs]
    low, high = measure.median_interval(ratios)
    mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})"
    return [name, f"{mine:,.{digits}f}", f"{theirs:,.{digits}f}", ratio]


def backlog_section(server_url: str, *, tasks: int, rounds: int, backlog: int) -> Section:
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
    pairs = {
        name: list(zip(rates[side], rates[alone], strict=True))
        for name, side in (("delayed", delayed), ("paused", paused))
    }
    rows = [row_of(f"{backlog:,} {name} rows", each) for name, each in pairs.items()]
    return Section("Drain/s beside other rows", ["median", "with", "without", "ratio (interval)"], rows, pairs)
