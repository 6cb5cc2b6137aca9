"""The benchmark page: ``./dev bench``. Everything runs on an own durable server; rates are compared within this run."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from pipeline.db import embedded
from tests.benchmarks import costs, measure
from tests.benchmarks.beside import backlog_section, beside_section
from tests.benchmarks.command import begun, console, tell, with_output, write
from tests.benchmarks.page import Page, Section
from tests.benchmarks.share import ceiling_section, share_section


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    tasks: int = 40_000
    rounds: int = 3
    backlog: int = 1_000_000
    pulses: int = 400
    #: Of one measurement of single sends, or under pgbench.
    seconds: int = 2
    #: What part of its tasks each case of the costs gets.
    cost_part: float = 1
    #: Whether images of pages are counted, too, which takes one run more of each case.
    with_images: bool = True


QUICK = Scale(tasks=3_000, rounds=1, backlog=0, pulses=60, seconds=1, cost_part=0.1, with_images=False)

PARTS = ("ceiling", "share", "costs", "beside", "backlog")


@click.command()
@click.option("--quick", is_flag=True, help="Show that everything runs, in about a minute; the figures say little.")
@click.option("--tasks", type=int, help="Tasks to drain on our side (40,000); dramatiq-pg gets a twentieth.")
@click.option("--rounds", type=int, help="Paired rounds of each comparison (3).")
@click.option("--backlog", type=int, help="Delayed and paused rows for its rounds (1,000,000); 0 leaves them out.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Leave out all other parts.")
@with_output
def main(
    *,
    quick: bool,
    tasks: int | None,
    rounds: int | None,
    backlog: int | None,
    parts: tuple[str, ...],
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Measure our SQL without Python, our share of that, what a task costs, and us beside dramatiq-pg."""
    asked = {"tasks": tasks, "rounds": rounds, "backlog": backlog}
    scale = replace(QUICK if quick else Scale(), **{name: value for name, value in asked.items() if value is not None})
    with begun(directory) as home:
        server = embedded.start(home / "server", durable=True)
        try:
            page = Page("Benchmarks", _about(server.version, scale))
            tell(", ".join(f"{name} {value}" for name, value in page.about.items()))
            for part in parts or PARTS:
                if part == "backlog" and not scale.backlog:
                    continue
                page.sections[part] = _MEASURED[part](server.url, scale)
                console.print(page.sections[part].terminal())
        finally:
            server.stop()
    write(page.document(), page.markdown(), json_file, markdown)


def _about(version: str, scale: Scale) -> dict[str, str]:
    return {
        "PostgreSQL": version,
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "workers": f"{measure.PROCESSES} processes × {measure.THREADS} threads",
        "rounds": str(scale.rounds),
        "scale": f"drains of {scale.tasks:,} tasks, {scale.pulses} pulses, sends for {scale.seconds} s",
    }


def _costs(server_url: str, scale: Scale) -> Section:
    found = {}
    for case in costs.CASES:
        size = max(int(case.size * scale.cost_part), 200)
        tell(f"counting: {case.title}, {size:,} and {2 * size:,} tasks")
        found[case.title] = costs.measure_case(server_url, case, size, with_images=scale.with_images)
    return costs.section(found)


_MEASURED: dict[str, Callable[[str, Scale], Section]] = {
    "ceiling": lambda url, scale: ceiling_section(url, scale.tasks, scale.seconds),
    "share": lambda url, scale: share_section(url, scale.tasks, scale.rounds),
    "costs": _costs,
    "beside": lambda url, scale: beside_section(
        url, tasks=scale.tasks, rounds=scale.rounds, pulses=scale.pulses, seconds=scale.seconds
    ),
    "backlog": lambda url, scale: backlog_section(url, tasks=scale.tasks, rounds=scale.rounds, backlog=scale.backlog),
}


if __name__ == "__main__":
    main()
