"""What the paired benchmarks share: where they run, what they are told to do, and how they report ratios."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline import logs
from pipeline.db import embedded
from pipeline.settings import Settings
from tests.benchmarks.peers.figures import Results, Spread

#: As wide as the tables need to be, where nobody looks on.
_WIDTH = 140

console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


@dataclass(frozen=True)
class Ratio:
    """A metric of one side divided by that of another, and what it has to be; without a bound it is only told."""

    metric: str
    side: str
    other: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def asked(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    def reached(self, value: float) -> str:
        if self.at_least is not None:
            return "yes" if value >= self.at_least else "no"
        return "" if self.at_most is None else ("yes" if value <= self.at_most else "no")


@dataclass(frozen=True)
class Report:
    """The figures of a run, the ratios they are compared by, and what else is to be said."""

    title: str
    about: dict[str, str]
    results: Results
    ratios: Sequence[Ratio]
    notes: dict[str, str]

    def rows(self) -> list[tuple[str, ...]]:
        """One for each ratio whose two sides were measured."""
        rows = []
        for each in self.ratios:
            found = self.results.ratio(each.metric, each.side, each.other)
            if found is not None:
                figures = (_figure(self.results.spread(each.metric, side)) for side in (each.side, each.other))
                ratio = f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"
                what = (each.metric, f"{each.side} / {each.other}")
                rows.append((*what, *figures, ratio, each.asked, each.reached(found.median)))
        return rows

    def terminal(self) -> Table:
        table = Table(*_HEAD)
        for row in self.rows():
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [_HEAD, ["---"] * len(_HEAD), *self.rows()]
        parts = [
            f"# {self.title}\n",
            *(f"- {name}: {value}" for name, value in self.about.items()),
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            *(f"- {name}: {value}" for name, value in self.notes.items()),
        ]
        return "\n".join(parts) + "\n"

    def document(self) -> dict[str, Any]:
        """Every single round, so that others can reckon with them."""
        runs = {
            metric: {side: [rounds[number] for number in sorted(rounds)] for side, rounds in sides.items()}
            for metric, sides in self.results.values.items()
        }
        ratios = [dict(zip(_HEAD, row, strict=True)) for row in self.rows()]
        return {"about": self.about, "runs": runs, "ratios": ratios, "notes": self.notes}

    def publish(self, json_file: Path | None, markdown_file: Path | None) -> None:
        """Print it, and write it where that was asked for."""
        console.print(self.terminal())
        for name, value in self.notes.items():
            console.print(f"{name}: {value}", markup=False)
        if json_file:
            json_file.write_text(json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n")
        if markdown_file:
            markdown_file.write_text(self.markdown())


_HEAD = ["", "sides", "first", "second", "ratio (95 % interval)", "asked", "reached"]


def _figure(spread: Spread | None) -> str:
    assert spread is not None
    digits = 2 if spread.median < 100 else 0
    return f"{spread.median:,.{digits}f}"


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all paired benchmarks have."""
    for option in (
        click.option(
            "--directory",
            default=Path("/var/tmp"),
            type=click.Path(path_type=Path, exists=True),
            help="For the servers' data; on a disk.",
        ),
        click.option(
            "--markdown",
            "markdown_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the report there.",
        ),
        click.option(
            "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every round there."
        ),
    ):
        command = option(command)
    return command


@contextmanager
def home(directory: Path) -> Iterator[Path]:
    """Give a directory that goes away afterwards, and that PostgreSQL's user can pass through if we are root."""
    logs.configure(Settings(log_level="WARNING"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended, as after Ctrl-C
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-", dir=directory) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def server(directory: Path) -> Iterator[embedded.EmbeddedServer]:
    """Run a durable server for a block."""
    running = embedded.start(directory, durable=True)
    try:
        yield running
    finally:
        running.stop()


def about(version: str, **others: object) -> dict[str, str]:
    """Say what the figures were measured with."""
    versions = {"PostgreSQL": version, "Python": platform.python_version(), "cores": str(os.cpu_count())}
    return versions | {name: str(value) for name, value in others.items()}


def tell(line: str) -> None:
    console.print(line, markup=False)
