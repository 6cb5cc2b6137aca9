"""Compare with the baseline, or renew it: ``./dev bench guard``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import psycopg2
from rich.table import Table

from pipeline import PostgresBroker, logs
from pipeline.db import embedded
from pipeline.db.migrate import migrate
from pipeline.settings import Settings
from tests.benchmarks.command import console, tell
from tests.benchmarks.guard import baseline, effort, trips, volume
from tests.benchmarks.guard.baseline import Figures, Verdict, Versions


@click.command()
@click.option(
    "--renew", is_flag=True, help="Make what is measured the baseline; commit it with the change that is the reason."
)
@click.option("--database", help="An empty, migrated database, instead of one on a server of this run's own.")
def main(*, renew: bool, database: str | None) -> None:
    """Measure what a task costs in round trips, rows, bytes, pages and Python, and compare it with the baseline."""
    logs.configure(Settings(log_level="WARNING"))
    with _database(database) as url:
        versions = Versions.here(_version(url))
        if renew:
            baseline.write(baseline.least(measure(url), measure(url)), versions)
            tell(f"wrote {baseline.BASELINE}")
            return
        before = baseline.read()
        figures = baseline.measured_until_no_worse(lambda: measure(url), versions, before)
    verdicts = baseline.compare(figures, versions, before)
    console.print(_table(verdicts))
    for complaint in baseline.complaints(verdicts):
        tell(complaint)
    if any(verdict.is_better for verdict in verdicts):
        tell("Some figures are better than the baseline: renew it, or it would hide a later regression.")
    sys.exit(1 if baseline.complaints(verdicts) else 0)


def measure(url: str) -> Figures:
    """Measure everything once, about 5 s."""
    with closing(PostgresBroker(settings=Settings(database_url=url))) as broker:
        volumes = volume.measure(broker)
    return volumes | trips.measure(url) | effort.measure()


@contextmanager
def _database(given: str | None) -> Iterator[str]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="pipeline-guard-") as home:
        Path(home).chmod(0o711)  # PostgreSQL's user must get through, if we are root
        with embedded.start(Path(home) / "server", durable=False) as server:
            migrate(server.url)
            yield server.url


def _version(url: str) -> str:
    with closing(psycopg2.connect(url)) as connection:
        return str(connection.server_version // 10_000)


def _table(verdicts: list[Verdict]) -> Table:
    table = Table("figure", "baseline", "now", "at most", "")
    for verdict in verdicts:
        numbers = ["–" if n is None else f"{n:,.3f}" for n in (verdict.expected, verdict.value, verdict.bound)]
        table.add_row(verdict.name, *numbers, "worse" if verdict.complaint else "better" if verdict.is_better else "")
    return table


if __name__ == "__main__":
    main()
