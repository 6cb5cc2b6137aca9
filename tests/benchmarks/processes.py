"""Do many worker processes get in each other's way? ``./dev bench processes``: drains by 1, 2, 4, 8 and 16 of them."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import click

from tests.benchmarks import measure
from tests.benchmarks.masters import ALIVE
from tests.benchmarks.measure import Side, execute, median_interval
from tests.benchmarks.outcome import Goal, Outcome, options, server, tell
from tests.fixtures.database import query
from tests.fixtures.wait import eventually

_SIZES = (1, 2, 4, 8, 16)
_PAUSE = "SELECT pipeline.pause_queue_v1('bench', 'bench', 'until all are there', NULL)"
_RESUME = "SELECT pipeline.resume_queue_v1('bench', 'bench', 'all are there')"
#: What the rate of the most processes must at least be of the best.
_SHARE = 0.9
#: Tasks by which each process warms up before the clock starts.
_WARM_UP = 2000


@click.command()
@options
@click.option("--tasks", type=int, help="Tasks of each drain (100,000; quick: 3,000).")
@click.option("--rounds", type=int, help="Interleaved rounds (6; quick: 1).")
def main(
    *,
    quick: bool,
    tasks: int | None,
    rounds: int | None,
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Drain a full queue with more and more worker processes, by turns, on a server of this run's own."""
    tasks, rounds = tasks or (3_000 if quick else 100_000), rounds or (1 if quick else 6)
    sizes = _SIZES[:3] if quick else _SIZES
    outcome = Outcome("Many worker processes", {"tasks": f"{tasks:,}", "rounds": str(rounds)})
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    with server(directory, outcome) as started:
        side = Side("ours", started.url)
        for number in range(rounds):
            for size in random.Random(number).sample(sizes, len(sizes)):
                rate = drain_rate(side, size, tasks, warm_up=_WARM_UP if not quick else 100)
                rates[size].append(rate)
                tell(f"round {number + 1}: {size} processes × {measure.THREADS} threads: {rate:,.0f}/s")
    report(outcome, rates)
    outcome.show()
    outcome.write(json_file, markdown)


def drain_rate(side: Side, processes: int, tasks: int, warm_up: int) -> float:
    """Tasks per second from when all processes are there and warm until the last task has ended."""
    with side.database(), side.workers(processes) as counters:
        eventually(lambda: query(side.url, ALIVE) == processes, within=60 + 5 * processes, every=0.05)

        def done() -> int:
            return sum(counter.read()[0] for counter in counters)

        before = 0
        for count in (warm_up * processes, tasks):
            execute(side.url, _PAUSE)
            side.run("fill", count)
            execute(side.url, "CHECKPOINT")
            before = done()
            execute(side.url, _RESUME)
            began = time.monotonic()
            eventually(lambda: done() >= before + count, within=300, every=0.02)  # noqa: B023 - called at once
        last = max(counter.read()[2] for counter in counters)
    return tasks / (last - began)


def report(outcome: Outcome, rates: dict[int, list[float]]) -> None:
    """Compare each number of processes with the best one, within each round."""
    best = max(rates, key=lambda size: statistics.median(rates[size]))
    most = max(rates)
    outcome.head = ["processes", "drain/s", "range", f"ratio to {best} (interval)"]
    for size, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates[best], strict=True)]
        ratio, (low, high) = statistics.median(ratios), median_interval(ratios)
        shown = f"{ratio:.2f} ({low:.2f}–{high:.2f})"
        median = f"{statistics.median(found):,.0f}"
        outcome.rows.append([str(size), median, f"{min(found):,.0f}–{max(found):,.0f}", shown])
        if size == most:
            outcome.goals.append(Goal(f"{most} processes / {best}, the best", f"≥ {_SHARE}", shown, ratio >= _SHARE))
    outcome.runs = {"drain": {str(size): found for size, found in rates.items()}}


if __name__ == "__main__":
    main()
