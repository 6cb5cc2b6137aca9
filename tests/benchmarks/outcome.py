"""What a benchmark of our own found: figures, goals, and how they are shown and written."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from pipeline import logs
from pipeline.db import embedded
from pipeline.db.embedded import EmbeddedServer
from pipeline.settings import Settings

_WIDTH = 140

console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class Goal:
    """What is asked of us, and how near we came."""

    what: str
    asked: str
    found: str
    is_reached: bool


@dataclass
class Outcome:
    """Everything that a benchmark found."""

    title: str
    about: dict[str, str] = field(default_factory=dict)
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    #: Every single value, for the JSON.
    runs: dict[str, Any] = field(default_factory=dict)

    def at_most(self, what: str, bound: float, found: float, unit: str = "") -> None:
        """Note a goal: not more than so much."""
        self.goals.append(Goal(what, f"≤ {bound:g}{unit}", f"{found:,.2f}{unit}", found <= bound))

    def show(self) -> None:
        for head, rows in self._tables():
            table = Table(*head)
            for row in rows:
                table.add_row(*row)
            console.print(table)

    def write(self, json_file: Path | None, markdown: Path | None) -> None:
        if json_file:
            document = {"about": self.about, "runs": self.runs, "goals": [vars(goal) for goal in self.goals]}
            json_file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        if markdown:
            about = "\n".join(f"- {name}: {value}" for name, value in self.about.items())
            tables = [_markdown([head, ["---"] * len(head), *rows]) for head, rows in self._tables()]
            markdown.write_text("\n\n".join([f"# {self.title}", about, *tables]) + "\n")

    def _tables(self) -> list[tuple[Sequence[str], list[Sequence[str]]]]:
        goals = [[goal.what, goal.asked, goal.found, "yes" if goal.is_reached else "no"] for goal in self.goals]
        return [(self.head, self.rows), (["goal", "asked", "found", "reached"], goals)]


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def options(command: Command) -> Command:
    """What all of these benchmarks can be told."""
    for option in (
        click.option("--quick", is_flag=True, help="Show that everything runs, in less than a minute."),
        click.option(
            "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every run there."
        ),
        click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the report there."),
        click.option(
            "--directory",
            default=Path("/var/tmp"),
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="For the server's data; on a disk.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def server(directory: Path, outcome: Outcome, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """Run a durable PostgreSQL server of this run's own for a block."""
    logs.configure(Settings(log_level="WARNING"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended, as after Ctrl-C
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-", dir=directory) as home:
        Path(home).chmod(0o711)  # PostgreSQL's user can pass through if we are root
        started = embedded.start(Path(home) / "server", durable=True, options=settings)
        try:
            about = {"PostgreSQL": started.version, "Python": platform.python_version(), "cores": str(os.cpu_count())}
            outcome.about = about | outcome.about
            tell(", ".join(f"{name} {value}" for name, value in outcome.about.items()))
            yield started
        finally:
            started.stop()


def tell(line: str) -> None:
    """Say how far it is."""
    console.print(line, markup=False)
