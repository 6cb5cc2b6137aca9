"""Does a worker process grow? ``./dev bench memory``: resident memory while it runs a million tasks, and beside delayed ones."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click

from tests.benchmarks import gauge, measure
from tests.benchmarks.masters import Masters, masters
from tests.benchmarks.measure import Side
from tests.benchmarks.outcome import Outcome, options, server, tell
from tests.fixtures.wait import eventually

_MOST_MIB = 80.0
#: From noise to growth: what the second half of the tasks, and the delayed ones, may add.
_FLAT_MIB = 2.0
_PROCESSES = 2
_STEPS = 10


@click.command()
@options
@click.option("--tasks", type=int, help="Tasks to run (1,000,000; quick: 20,000).")
@click.option("--delayed", type=int, help="Delayed tasks to wait beside (1,000,000; quick: 20,000).")
def main(
    *,
    quick: bool,
    tasks: int | None,
    delayed: int | None,
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Measure the resident memory of worker processes, run by `pipeline worker`, on a server of this run's own."""
    tasks, delayed = tasks or (20_000 if quick else 1_000_000), delayed or (20_000 if quick else 1_000_000)
    step = tasks // _STEPS
    outcome = Outcome("Memory of worker processes", {"tasks": f"{tasks:,}", "delayed": f"{delayed:,}"})
    outcome.head = ["tasks", "MiB of each process"]
    with server(directory, outcome) as started, tempfile.TemporaryDirectory(dir=directory) as home:
        side = Side("ours", started.url)
        with side.database(), masters(side.url, _PROCESSES, measure.THREADS, Path(home)) as running:
            sizes = [_note(outcome, "0", running)]
            for number in range(1, _STEPS + 1):
                _run(side, running, step)
                sizes.append(_note(outcome, f"{number * step:,}", running))
            measure.add_backlog(side.url, delayed, "delayed")
            _run(side, running, step)
            beside = _note(outcome, f"and {step:,} beside {delayed:,} delayed", running)
    report(outcome, sizes, beside, step)
    outcome.show()
    outcome.write(json_file, markdown)


def _run(side: Side, running: Masters, tasks: int) -> None:
    """Send tasks to workers at work, and wait until they have run."""
    before = running.done()
    side.run("fill", tasks)
    eventually(lambda: running.done() >= before + tasks, within=60 + tasks / 500, every=0.1)


def _note(outcome: Outcome, when: str, running: Masters) -> list[float]:
    sizes = [gauge.resident_mib(pid) for pid in running.workers]
    listed = ", ".join(f"{size:.1f}" for size in sizes)
    outcome.rows.append([when, listed])
    tell(f"{when} tasks: {listed} MiB")
    return sizes


def report(outcome: Outcome, sizes: list[list[float]], beside: list[float], step: int) -> None:
    """Judge what the processes came to, each by itself; the worst counts."""
    by_process = list(zip(*sizes, strict=True))
    half = _STEPS // 2
    steps = [step * number / 100_000 for number in range(half, _STEPS + 1)]
    slopes = [statistics.linear_regression(steps, each[half:]).slope for each in by_process]
    outcome.at_most("after all tasks", _MOST_MIB, max(sizes[-1]), " MiB")
    outcome.at_most("second half, fitted", _FLAT_MIB, max(slopes) * (steps[-1] - steps[0]), " MiB")
    added = max(after - before for after, before in zip(beside, sizes[-1], strict=True))
    outcome.at_most("delayed tasks add", _FLAT_MIB, added, " MiB")
    outcome.rows.append(["slope of the second half, MiB per 100,000", ", ".join(f"{slope:.2f}" for slope in slopes)])
    outcome.runs = {"mib": sizes, "mib_beside_delayed": beside, "slopes_mib_per_100000": slopes}


if __name__ == "__main__":
    main()
