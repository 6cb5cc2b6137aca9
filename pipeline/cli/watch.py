"""``pipeline task watch``: a task's progress until its end."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Protocol

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from pipeline.errors import TaskNotFound
from pipeline.runtime import ask
from pipeline.states import FINAL_STATES, TaskState
from pipeline.store import tasks
from pipeline.store.tasks import TaskRow

#: Progress is written once a second at most; looking twice as often is soon enough.
_LOOK_SECONDS = 0.5


class View(Protocol):
    """Where a task is shown."""

    def show(self, row: TaskRow) -> None:
        """Show what has become of it."""


def watch(task_id: str) -> bool:
    """Show a task until it ends; tell whether it succeeded.

    Raises:
        TaskNotFound: There is no such task (any more).
    """
    row = _look(task_id)
    with _view() as view:
        view.show(row)
        while row.state not in FINAL_STATES:
            threading.Event().wait(_LOOK_SECONDS)
            row = _look(task_id)
            view.show(row)
    if row.error and row.state is not TaskState.SUCCEEDED:
        click.echo(row.error)
    return row.state is TaskState.SUCCEEDED


def _look(task_id: str) -> TaskRow:
    known = tasks.as_task_id(task_id)
    row = ask(tasks.status, known) if known else None
    if row is None:
        raise TaskNotFound(task_id)
    return row


def _view() -> AbstractContextManager[View]:
    console = Console(highlight=False)
    return _Bar(console) if console.is_terminal else nullcontext(_Lines())


class _Lines:
    """One line for each change."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def show(self, row: TaskRow) -> None:
        now = (row.state, row.attempt, row.progress, row.step, row.done, row.total, row.note)
        if now != self._last:
            click.echo(f"{datetime.now().astimezone():%H:%M:%S} {_told(row)}")
        self._last = now


class _Bar(AbstractContextManager["_Bar"]):
    """A bar that moves."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.fields[actor]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[elapsed]}"),
            TextColumn("{task.fields[expected]}"),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns, console=console)
        self._bar = self._progress.add_task("", total=100, actor="", elapsed="", expected="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def show(self, row: TaskRow) -> None:
        self._progress.update(
            self._bar,
            completed=row.progress,
            description=escape(" ".join(filter(None, [row.state.value, _step(row), row.note]))),
            actor=escape(row.actor),
            elapsed=_elapsed(row),
            expected=_expected(row),
        )


def _told(row: TaskRow) -> str:
    attempts = f" after {row.attempt} attempts" if row.attempt and row.state not in FINAL_STATES else ""
    parts = [f"{row.state.value}{attempts} {row.progress}%", _step(row), row.note, _expected(row)]
    return " ".join(filter(None, parts))


def _step(row: TaskRow) -> str:
    """Tell what it is at, and how much of it is done; nothing once it has ended."""
    if row.state in FINAL_STATES:
        return ""
    counts = "" if row.done is None else f"{row.done:,}" if row.total is None else f"{row.done:,}/{row.total:,}"
    return " ".join(filter(None, [row.step, counts]))


def _expected(row: TaskRow) -> str:
    """Tell when it will have ended, by this machine's clock; nothing if that cannot be said."""
    if row.expected_at is None or row.state in FINAL_STATES:
        return ""
    expected = row.expected_at.astimezone()
    is_today = expected.date() == datetime.now(tz=expected.tzinfo).date()
    return f"until {expected:%H:%M:%S}" if is_today else f"until {expected:%Y-%m-%d %H:%M}"


def _elapsed(row: TaskRow) -> str:
    """Tell how long it has run, by this machine's clock; nothing before it runs."""
    if row.started_at is None:
        return ""
    seconds = ((row.finished_at or datetime.now(tz=UTC)) - row.started_at).total_seconds()
    minutes, seconds = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
