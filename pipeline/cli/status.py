"""``pipeline status``: what has become of a task, or of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.store.status import Filters
    from pipeline.store.tasks import TaskRow


@click.command()
@click.argument("task_id", required=False, metavar="[ID]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many tasks.")
def status(task_id: str | None, as_json: bool, limit: int) -> None:
    """Show the task ID; without one, the queues, the workers and the newest tasks."""
    from pipeline.cli.environment import use_running_database

    use_running_database()
    if task_id is None:
        _show_overview(limit, as_json=as_json)
    else:
        show_task(task_id, as_json=as_json)


def _show_overview(limit: int, *, as_json: bool) -> None:
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import status as store

    queues, workers = ask(store.queues), ask(store.workers)
    tasks = ask(store.find, limit=limit)
    if as_json:
        tables.show_json({"queues": queues, "workers": workers, "tasks": [_described(task) for task in tasks]})
        return
    tables.show(tables.queue_table(queues), tables.worker_table(workers), tables.task_table("newest tasks", tasks))


def show_tasks(filters: Filters, *, before: str | None, limit: int, as_json: bool) -> None:
    """List the newest tasks that match, those that are older than the task ``before``.

    Raises:
        TaskNotFound: There is no task ``before``, or no parent.
    """
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import status as store

    for task_id in (before, filters.parent):
        if task_id is not None:
            _known(task_id)
    rows = ask(store.find, filters, before=before, limit=limit)
    if as_json:
        tables.show_json([_described(row) for row in rows])
    else:
        tables.show(tables.task_table("tasks", rows))


def _known(task_id: str) -> TaskRow:
    from pipeline.errors import TaskNotFound
    from pipeline.runtime import ask
    from pipeline.store import tasks

    known = tasks.as_task_id(task_id)
    row = ask(tasks.status, known) if known else None
    if row is None:
        raise TaskNotFound(task_id)
    return row


def show_task(task_id: str, *, as_json: bool) -> None:
    """Show one task, its runs, and what has happened to it.

    Raises:
        TaskNotFound: There is no such task.
    """
    from pipeline.cli import tables
    from pipeline.runtime import ask
    from pipeline.store import audit
    from pipeline.store import status as store
    from pipeline.store.timeline import timeline

    row = _known(task_id)
    attempts, events = ask(store.attempts, row.task_id), ask(timeline, row.task_id)
    if as_json:
        commands = ask(audit.newest, audit.AuditFilters(task_id=row.task_id), limit=1000)[::-1]
        described = {**_described(row), "args": row.args, "runs": attempts, "audit": commands, "timeline": events}
        tables.show_json(described)
        return
    shown = {name: value for name, value in _described(row).items() if name not in _SAID_TWICE}
    shown["args"] = row.args
    details = tables.detail_table((name, value) for name, value in shown.items() if value not in (None, ""))
    more = [tables.attempt_table(attempts), tables.timeline_table(events)]
    tables.show(details, *(table for table in more if table.row_count))


#: Other names of what is shown already.
_SAID_TWICE = frozenset({"name", "status", "error_message"})


def _described(task: Any) -> dict[str, Any]:
    from pipeline.task_queue import as_status

    return as_status(task)
