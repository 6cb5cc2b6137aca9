"""``pipeline audit``: who did what."""

from __future__ import annotations

from datetime import datetime

import click

from pipeline.cli.options import Since


@click.command()
@click.option("--task", "task_id", metavar="ID", help="Only what was done to this task.")
@click.option("--who", help="Only what this one did.")
@click.option("--schedule", metavar="NAME", help="Only what was done to this schedule.")
@click.option("--since", type=Since(), help="Only since 2026-12-24T18:00, or 90s, 30m, 2h, 1d … ago.")
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many commands.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def audit(
    task_id: str | None, who: str | None, schedule: str | None, since: datetime | None, limit: int, as_json: bool
) -> None:
    """Show what operators have done, newest first: who, when, from where, why, and what it changed."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.errors import TaskNotFound
    from pipeline.runtime import ask
    from pipeline.store.audit import AuditFilters, newest
    from pipeline.store.tasks import as_task_id

    known = None if task_id is None else as_task_id(task_id)
    if known is None and task_id is not None:
        raise TaskNotFound(task_id)
    use_running_database()
    rows = ask(newest, AuditFilters(task_id=known, who=who, schedule=schedule, since=since), limit=limit)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(tables.audit_table(rows))
