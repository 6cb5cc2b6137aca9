"""Tables for people, 80 columns wide, and the same as JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.doctor import Finding
from pipeline.store.audit import AuditRow
from pipeline.store.gates import GateRow
from pipeline.store.schedules import FiringRow, ScheduleRow
from pipeline.store.status import AttemptRow, HeldTask, QueueRow, WorkerRow
from pipeline.store.tasks import TaskRow
from pipeline.store.timeline import TimelineRow
from pipeline.store.tokens import TokenRow

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$", re.ASCII)
_COLOURS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "alive": "green",
    "draining": "cyan",
    "dead": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def show(*tables: Table) -> None:
    """Print tables, one below the other."""
    console = Console(highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table if table.row_count else f"[bold]{table.title}[/]: none")


def show_json(value: Any) -> None:
    """Print rows, or whatever holds them, as JSON."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def show_json_line(value: Any) -> None:
    """Print one row as JSON on a line of its own, in ASCII: it may hold what would move a terminal's cursor."""
    click.echo(json.dumps(value, default=_plain))


def queue_table(rows: Iterable[QueueRow]) -> Table:
    """What waits and runs in each queue."""
    table = _table(
        "queues", ["queue", "queued", "scheduled", "running", "limit", "oldest due", ""], numbers=(1, 2, 3, 4)
    )
    for row in rows:
        paused = "paused" if row.is_paused else ""
        _add(table, row.queue, row.queued, row.scheduled, row.running, row.max_running, _when(row.oldest_due), paused)
    return table


def pause_table(rows: Iterable[QueueRow]) -> Table:
    """Who paused which queue, until when and why."""
    table = _table("paused", ["queue", "by", "until", "why"])
    for row in rows:
        if row.is_paused:
            _add(table, row.queue, row.paused_by, _when(row.resume_at) or "resumed", row.pause_reason or "")
    return table


def gate_table(rows: Iterable[GateRow]) -> Table:
    """One line per gate."""
    table = _table("gates", ["gate", "limit", "running", "waiting", "paused by", "until", "why"], numbers=(1, 2, 3))
    for row in rows:
        paused = (row.paused_by, _when(row.resume_at) or "resumed", row.pause_reason) if row.is_paused else ("", "", "")
        _add(table, row.gate, row.max_running, row.running, row.waiting, *paused)
    return table


def worker_table(rows: Iterable[WorkerRow]) -> Table:
    """One line per worker process."""
    headers = ["worker", "state", "process", "threads", "running", "claimed", "last beat", "queues"]
    table = _table("workers", headers, numbers=(0, 3, 4, 5))
    for row in rows:
        process = f"{row.pid}@{row.host}"
        counts = (row.threads, row.running, row.claimed)
        state = "draining" if row.state == "alive" and row.drain_at is not None else row.state
        _add(table, row.worker_id, state, process, *counts, _when(row.beat_at), ", ".join(row.queues))
    return table


def running_table(rows: Iterable[WorkerRow]) -> Table:
    """One line per task that runs, the oldest of each worker first."""
    table = _table("running", ["worker", "thread", "task", "actor", "seconds"], ids=2, numbers=(0, 1, 4))
    for row in rows:
        for task in row.tasks:
            _add(table, row.worker_id, task["thread"], task["task_id"], task["actor"], task["seconds"])
    return table


def task_table(title: str, rows: Iterable[TaskRow]) -> Table:
    """One line per task."""
    table = _table(title, ["task", "actor", "state", "created"], ids=0)
    for row in rows:
        _add(table, row.task_id, row.actor, row.state.value, _when(row.created_at))
    return table


def scheduled_table(rows: Iterable[TaskRow]) -> Table:
    """One line per task whose time is still to come."""
    table = _table("scheduled", ["task", "actor", "attempt", "due"], ids=0, numbers=(2,))
    for row in rows:
        _add(table, row.task_id, row.actor, row.attempt, _when(row.eta))
    return table


def held_table(title: str, rows: Iterable[HeldTask]) -> Table:
    """One line per task in the hands of a worker."""
    table = _table(title, ["worker", "thread", "task", "actor", "%", "since"], ids=2, numbers=(0, 1, 4))
    for row in rows:
        since = _when(row.since) if row.last_seen_at is None else f"last seen {_when(row.last_seen_at)}"
        _add(table, row.worker_id, row.thread, row.task_id, row.actor, row.progress, since)
    return table


def detail_table(details: Iterable[tuple[str, Any]]) -> Table:
    """One line per property."""
    table = _table("", ["", ""])
    table.show_header = False
    for name, value in details:
        _add(table, name, _when(value) if isinstance(value, datetime) else value)
    return table


def attempt_table(rows: Iterable[AttemptRow]) -> Table:
    """One line per run."""
    headers = ["run", "attempt", "outcome", "worker", "waited", "ran", "finished", "error"]
    table = _table("runs", headers, numbers=(0, 1, 4, 5))
    for row in rows:
        worker = "" if row.worker_id is None else f"{row.worker_id}@{row.host}" if row.host else row.worker_id
        times = (_seconds(row.wait_seconds), _seconds(row.run_seconds), _when(row.finished_at))
        _add(table, row.run, row.attempt, row.outcome.name.lower(), worker, *times, row.error_type)
    return table


def token_table(rows: Iterable[TokenRow]) -> Table:
    """One line per token."""
    table = _table("tokens", ["token", "scope", "state", "by", "expires", "last used"])
    for row in rows:
        times = (_when(row.expires_at) or "never", _when(row.last_used_at) or "never")
        _add(table, row.name, row.scope, row.state, row.created_by, *times)
    return table


def audit_table(rows: Iterable[AuditRow]) -> Table:
    """One line per command, and whatever it changed."""
    table = _table("commands", ["when", "who", "from", "what", "at", "changed", "why"])
    for row in rows:
        at = (
            row.task_id or row.queue or row.gate or row.schedule or (f"worker {row.worker_id}" if row.worker_id else "")
        )
        _add(table, _when(row.at), row.who, row.source, row.action, at, _changed(row), row.reason)
    return table


def _changed(row: AuditRow) -> str:
    values = [row.old_value, row.new_value]
    if row.schedule is not None:
        values = _of_schedule(row.old_value, row.new_value)
    return " → ".join(", ".join(f"{name} {_told(each)}" for name, each in value.items()) for value in values if value)


def _told(value: Any) -> Any:
    """Write an instant as the other columns do; JSON has it as text."""
    return _when(datetime.fromisoformat(value)) if isinstance(value, str) and _INSTANT.match(value) else value


def _of_schedule(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[dict[str, Any] | None]:
    """Choose of a schedule what differs; of one that was made or removed, when it was due and what it sent."""
    if old is not None and new is not None:
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    else:
        names = ["expression", "actor", "task_id"]
    return [each and {name: each[name] for name in names if name in each} for each in (old, new)]


def timeline_table(rows: Iterable[TimelineRow]) -> Table:
    """One line per event."""
    table = _table("timeline", ["when", "what", "run", "worker", "who", "more"], numbers=(2, 3))
    for row in rows:
        _add(table, _when(row.at), row.event, row.run, row.worker_id, row.who, row.detail)
    return table


def schedule_table(rows: Iterable[tuple[ScheduleRow, datetime | None, str | None]]) -> Table:
    """One line per schedule, and when it is due next, or what is wrong with it; times are those of its own zone."""
    table = _table("schedules", ["schedule", "due", "next", "last"])
    for row, next_due, problem in rows:
        zone = _zone(row.timezone)
        due = f"every {row.expression}" if row.kind == "interval" else f"{row.expression}\n{row.timezone}"
        upcoming = "paused" if row.state == "paused" else problem or _local(next_due, zone, "%Z")
        last = f"{_local(row.last_due_at, zone)}\n{row.last_state or 'gone'}" if row.last_due_at else ""
        _add(table, row.name, due, upcoming, last)
    return table


def firing_table(rows: Iterable[FiringRow], timezone: str) -> Table:
    """One line per instant that was dealt with, or run by hand; times are those of the schedule's zone."""
    table = _table("firings", ["due", "late", "", "task"], ids=3, numbers=(1,))
    for row in rows:
        late = "" if row.is_manual else _seconds((row.fired_at - row.due_at).total_seconds())
        became = (
            row.state if row.outcome == "fired" else row.outcome + (f" ×{row.instants}" if row.instants > 1 else "")
        )
        told = f"{became}\nby {row.fired_by}" if row.is_manual else became
        _add(table, _local(row.due_at, _zone(timezone)), late, told, row.task_id)
    return table


def instant_table(rows: Iterable[tuple[datetime, str]]) -> Table:
    """One line per instant: as its zone's clock shows it, in UTC, and what is special about it."""
    table = _table("due", ["local", "UTC", ""])
    for local, special in rows:
        _add(table, f"{local:%a %Y-%m-%d %H:%M:%S %Z}", f"{local.astimezone(UTC):%Y-%m-%d %H:%M:%S}", special)
    return table


def finding_table(rows: Iterable[Finding]) -> Table:
    """One line per check, and what to do below it."""
    table = _table("", ["check", "", "found"])
    for row in rows:
        _add(table, row.check.replace("_", " "), row.verdict, "\n".join(filter(None, (row.found, row.remedy))))
    return table


def _table(title: str, headers: Sequence[str], *, ids: int | None = None, numbers: Sequence[int] = ()) -> Table:
    """Make an empty table; the column of ids is never shortened, so that they can be copied."""
    table = Table(box=None, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for position, header in enumerate(headers):
        is_id = position == ids
        table.add_column(
            header,
            justify="right" if position in numbers else "left",
            min_width=36 if is_id else None,
            no_wrap=is_id,
            overflow="fold",
            header_style="dim",
        )
    return table


def _add(table: Table, *values: Any) -> None:
    table.add_row(*(_cell(value) for value in values))


def _cell(value: Any) -> str:
    text = escape("" if value is None else str(value))
    colour = _COLOURS.get(text)
    return f"[{colour}]{text}[/]" if colour else text


def _when(instant: datetime | None) -> str:
    """Write an instant in this machine's time zone; without the day if that is today."""
    if instant is None:
        return ""
    local = instant.astimezone()
    is_today = local.date() == datetime.now(tz=local.tzinfo).date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M}"


def _zone(name: str) -> ZoneInfo:
    """Find a zone; UTC for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _local(instant: datetime | None, zone: ZoneInfo, more: str = "") -> str:
    """Write an instant in a zone; with seconds only if it has any."""
    if instant is None:
        return ""
    local = instant.astimezone(zone)
    clock = "%H:%M:%S" if local.second else "%H:%M"
    return local.strftime(f"%Y-%m-%d {clock} {more}").strip()


def _seconds(seconds: float | None) -> str:
    """Write how long something took, the shorter the more exactly."""
    if seconds is None:
        return ""
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.0f} s"


def _plain(value: Any) -> Any:
    """Make JSON of a row or an instant."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
