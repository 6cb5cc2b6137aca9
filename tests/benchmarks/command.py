"""What the benchmark's commands share: options, a directory for the servers' data, the end of a run."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from pipeline import logs
from pipeline.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

#: As wide as the tables need to be, where nobody looks on.
_WIDTH = 180

console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def tell(line: str) -> None:
    """Say how far it is."""
    console.print(line, markup=False)


def with_output(command: Command) -> Command:
    """Let a command take ``--json``, ``--markdown`` and ``--directory``."""
    file, directory = (
        click.Path(path_type=Path, dir_okay=False),
        click.Path(path_type=Path, exists=True, file_okay=False),
    )
    for option in (
        click.option("--directory", default=Path("/var/tmp"), type=directory, help="For the servers' data; on a disk."),
        click.option("--markdown", type=file, help="Write the report there."),
        click.option("--json", "json_file", type=file, help="Write every run there."),
    ):
        command = option(command)
    return command


@contextmanager
def begun(directory: Path) -> Iterator[Path]:
    """Give a run a directory that goes away afterwards, and that PostgreSQL's user can pass through if we are root."""
    logs.configure(Settings(log_level="WARNING"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended, as after Ctrl-C
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-", dir=directory) as home:
        Path(home).chmod(0o711)
        yield Path(home)


def write(document: dict[str, Any], page: str, json_file: Path | None, markdown: Path | None) -> None:
    """Write what was asked for."""
    if json_file:
        json_file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if markdown:
        markdown.write_text(page)
