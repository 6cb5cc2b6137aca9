"""``pipeline inspect``: what the workers are at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


@click.command()
@click.argument("what", type=click.Choice(["active", "scheduled", "reserved", "stats"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How many tasks.")
def inspect(what: str, as_json: bool, limit: int) -> None:
    r"""Show what the workers are at.

    \b
    active     tasks that run, each with its worker and thread
    scheduled  tasks whose time is still to come, retries among them
    reserved   tasks that a worker has claimed and that do not run yet
    stats      the worker processes

    A task counts as running about a second after it has begun. Of a worker that was not heard of for three beats
    everything counts as running that it holds.
    """
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database

    use_running_database()
    rows, table = _VIEWS[what](limit)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(table)


def _active(limit: int) -> tuple[Any, Any]:
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import status

    rows = ask(status.started, limit=limit)
    return rows, tables.held_table("active", rows)


def _scheduled(limit: int) -> tuple[Any, Any]:
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.states import TaskState
    from pipeline.store import status

    rows = ask(status.find, status.Filters(states={TaskState.SCHEDULED}), limit=limit)
    return rows, tables.scheduled_table(rows)


def _reserved(limit: int) -> tuple[Any, Any]:
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import status

    rows = ask(status.reserved, limit=limit)
    return rows, tables.held_table("reserved", rows)


def _stats(_limit: int) -> tuple[Any, Any]:
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import status

    rows = ask(status.workers)
    return rows, tables.worker_table(rows)


_VIEWS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "active": _active,
    "scheduled": _scheduled,
    "reserved": _reserved,
    "stats": _stats,
}
