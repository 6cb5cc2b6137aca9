"""Run peers beside us: ``./dev bench peers``."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from pathlib import Path

import click

from tests.benchmarks.command import begun, console, tell, with_output, write
from tests.benchmarks.peers import charts, interleaved, report
from tests.benchmarks.peers.catalog import PEER, PEERS, VISITS
from tests.benchmarks.peers.figures import Results
from tests.benchmarks.peers.servers import pooler, postgres, redis
from tests.benchmarks.peers.stage import House
from tests.benchmarks.peers.visits import QUICK, Scale


@click.command()
@click.option("--quick", is_flag=True, help="Show that everything runs, in about two minutes; the figures say little.")
@click.option("--rounds", type=int, help="Interleaved rounds of each measurement (3; quick: 1).")
@click.option("--only", multiple=True, type=click.Choice(list(PEER)), help="Leave out all other systems.")
@click.option(
    "--visit", "visits", multiple=True, type=click.Choice(list(VISITS)), help="Leave out all other measurements."
)
@with_output
@click.option(
    "--charts", "charts_dir", type=click.Path(path_type=Path, file_okay=False), help="Write bar charts (SVG) there."
)
def main(
    *,
    quick: bool,
    rounds: int | None,
    only: tuple[str, ...],
    visits: tuple[str, ...],
    json_file: Path | None,
    markdown: Path | None,
    charts_dir: Path | None,
    directory: Path,
) -> None:
    """Measure our queue and its peers by turns, on servers of this run's own, and compare within each round."""
    scale = QUICK if quick else Scale()
    scale = dataclasses.replace(scale, rounds=rounds or scale.rounds)
    results = Results()
    with (
        begun(directory) as home,
        postgres(home) as database,
        pooler(database) as way,
        redis(home) as broker,
    ):
        house = House(database, broker, home, pooler=way)
        about = _about(house, scale)
        tell(", ".join(f"{name} {value}" for name, value in about.items()))
        peers = interleaved.prepare(house, [PEER[name] for name in only] or PEERS, results, tell)
        for visit in visits or VISITS:
            interleaved.measure(house, visit, [peer for peer in peers if visit in peer.visits], scale, results, tell)
    for table in report.terminal(results):
        console.print(table)
    write(report.document(results, about), report.markdown(results, about), json_file, markdown)
    if charts_dir:
        for path in charts.write(results, charts_dir):
            tell(f"wrote {path}")
    sys.exit(1 if results.failures else 0)


def _about(house: House, scale: Scale) -> dict[str, str]:
    return {
        "PostgreSQL": house.postgres.version,
        "PgBouncer": house.pooler.version if house.pooler else "none",
        "Redis": house.redis.version if house.redis else "none",
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "rounds": str(scale.rounds),
        "scale": f"drains of {scale.drain_seconds:g} s, {scale.pulses} pulses, sends for {scale.send_seconds:g} s",
    }


if __name__ == "__main__":
    main()
