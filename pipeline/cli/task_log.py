"""``pipeline task logs``: what a task logged, also while it goes on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import click

from pipeline.cli import tables
from pipeline.errors import TaskNotFound
from pipeline.runtime import ask
from pipeline.states import FINAL_STATES
from pipeline.store import status, task_logs, tasks
from pipeline.store.task_logs import BEGINNING, LogLine

_LOOK_SECONDS = 0.5
#: For how long after a task's end its last lines may still be on their way: they are written once a second.
_LAST_SECONDS = 2.5
_PAGE = 1000

_COLOURS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}
#: What would move the cursor of a terminal, or worse.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show_logs(task_id: str, *, as_json: bool, **which: Any) -> None:
    """Print what a task logged; if it is to be followed, until it has ended.

    Raises:
        TaskNotFound: There is no such task.
    """
    known = tasks.as_task_id(task_id)
    if known is None or ask(tasks.status, known) is None:
        raise TaskNotFound(task_id)
    run = None
    for line in _lines(known, **which):
        if as_json:
            tables.show_json_line(line)
            continue
        if line.run != run:
            run = line.run
            click.secho(_heading(known, line), bold=True)
        click.echo(_told(line))
    if run is None and not as_json:
        click.echo("Nothing was logged.", err=True)


def _lines(task_id: str, *, follow: bool, **which: Any) -> Iterator[LogLine]:
    after, deadline = BEGINNING, None
    while True:
        page = ask(task_logs.read, task_id, after=after, limit=_PAGE, **which)
        yield from page
        after = page[-1].place if page else after
        if len(page) == _PAGE:
            continue
        if not follow or (deadline is not None and time.monotonic() > deadline):
            return
        threading.Event().wait(_LOOK_SECONDS)
        if deadline is None and _has_ended(task_id):
            deadline = time.monotonic() + _LAST_SECONDS


def _has_ended(task_id: str) -> bool:
    row = ask(tasks.status, task_id)
    return row is None or row.state in FINAL_STATES


def _heading(task_id: str, line: LogLine) -> str:
    """Name a run, and tell how it ended if it has."""
    ended = next((row for row in ask(status.attempts, task_id) if row.run == line.run), None)
    name = f"run {line.run}, attempt {line.attempt}"
    if ended is None:
        return name
    error = ": ".join(filter(None, (ended.error_type, (ended.error_message or "").partition("\n")[0])))
    return f"{name}: {ended.outcome.name.lower()}" + (f", {_plain(error)}" if error else "")


def _told(line: LogLine) -> str:
    at = f"{line.at.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3]
    level = click.style(f"{line.level:<8}", fg=_COLOURS.get(line.level))
    return f"{at} {level} {_plain(line.logger)}: {_plain(line.message)}"


def _plain(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
