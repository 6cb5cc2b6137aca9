"""Run peers beside us: ``./dev bench peers``."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from pipeline import logs
from pipeline.settings import Settings
from tests.benchmarks.peers import charts, interleaved, report
from tests.benchmarks.peers.catalog import PEER, PEERS, VISITS
from tests.benchmarks.peers.figures import Results
from tests.benchmarks.peers.servers import pooler, postgres, redis
from tests.benchmarks.peers.stage import House
from tests.benchmarks.peers.visits import QUICK, Scale

#: As wide as the table needs to be, where nobody looks on.
_WIDTH = 180

console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


@click.command()
@click.option("--quick", is_flag=True, help="Show that everything runs, in about two minutes; the figures say little.")
@click.option("--rounds", type=int, help="Interleaved rounds of each measurement (3; quick: 1).")
@click.option("--only", multiple=True, type=click.Choice(list(PEER)), help="Leave out all other systems.")
@click.option(
    "--visit", "visits", multiple=True, type=click.Choice(list(VISITS)), help="Leave out all other measurements."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every run there.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the report there.")
@click.option(
    "--charts", "charts_dir", type=click.Path(path_type=Path, file_okay=False), help="Write bar charts (SVG) there."
)
@click.option(
    "--directory",
    default=Path("/var/tmp"),
    type=click.Path(path_type=Path, exists=True),
    help="For the servers' data; on a disk.",
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
    logs.configure(Settings(log_level="WARNING"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended, as after Ctrl-C
    scale = QUICK if quick else Scale()
    scale = dataclasses.replace(scale, rounds=rounds or scale.rounds)
    results = Results()
    with (
        _home(directory) as home,
        postgres(home) as database,
        pooler(database) as way,
        redis(home) as broker,
    ):
        house = House(database, broker, home, pooler=way)
        about = _about(house, scale)
        _tell(", ".join(f"{name} {value}" for name, value in about.items()))
        peers = interleaved.prepare(house, [PEER[name] for name in only] or PEERS, results, _tell)
        for visit in visits or VISITS:
            interleaved.measure(house, visit, [peer for peer in peers if visit in peer.visits], scale, results, _tell)
    for table in report.terminal(results):
        console.print(table)
    _write(results, about, json_file, markdown, charts_dir)
    sys.exit(1 if results.failures else 0)


@contextmanager
def _home(directory: Path) -> Iterator[Path]:
    """A directory that goes away afterwards, and that PostgreSQL's user can pass through if we are root."""
    with tempfile.TemporaryDirectory(prefix="pipeline-peers-", dir=directory) as home:
        Path(home).chmod(0o711)
        yield Path(home)


def _tell(line: str) -> None:
    console.print(line, markup=False)


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


def _write(
    results: Results, about: dict[str, str], json_file: Path | None, markdown: Path | None, charts_dir: Path | None
) -> None:
    if json_file:
        json_file.write_text(json.dumps(report.document(results, about), indent=2, ensure_ascii=False) + "\n")
    if markdown:
        markdown.write_text(report.markdown(results, about))
    if charts_dir:
        for path in charts.write(results, charts_dir):
            console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
