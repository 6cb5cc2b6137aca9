"""``pipeline task``: look at single tasks and command them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import click

from pipeline.cli.failure import Failure
from pipeline.cli.options import Duration, Instant, Json, reason_option, who_option
from pipeline.states import TaskState
from pipeline.store.status import Filters
from pipeline.store.task_logs import LEVELS

_ids = click.argument("task_ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def task() -> None:
    """Look at single tasks and command them."""


@task.command(name="list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in TaskState]),
    help="In this state; repeatable.",
)
@click.option("--actor", help="Of this actor.")
@click.option("--queue", help="Of this queue.")
@click.option("--tag", help="With this tag.")
@click.option("--entity", help="About this business record, such as invoice:4711.")
@click.option("--tenant", help="Of this tenant.")
@click.option("--correlation-id", help="Of this correlation id.")
@click.option("--parent", metavar="ID", help="Enqueued by this task.")
@click.option("--before", metavar="ID", help="Older than this task: the last one of the page before.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_(states: Sequence[str], before: str | None, limit: int, as_json: bool, **which: str | None) -> None:
    """List the newest tasks, or those of them that match all that is given."""
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.status import show_tasks

    use_running_database()
    wanted = [TaskState(state) for state in states] or None
    show_tasks(Filters(wanted, **which), before=before, limit=limit, as_json=as_json)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(task_id: str, as_json: bool) -> None:
    """Show the task ID: its state, its runs, and what has happened to it."""
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.status import show_task

    use_running_database()
    show_task(task_id, as_json=as_json)


@task.command()
@click.argument("task_id", metavar="ID")
def watch(task_id: str) -> None:
    """Show the progress of the task ID until it ends.

    A live bar on a terminal, otherwise a line for each change. Exit status 0 if it succeeded, 1 if not. Ctrl-C leaves;
    the task goes on.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.watch import watch as watch_task

    use_running_database()
    try:
        has_succeeded = watch_task(task_id)
    except KeyboardInterrupt:
        click.echo("Not watched any more; the task goes on.", err=True)
        has_succeeded = False
    click.get_current_context().exit(0 if has_succeeded else 1)


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--run", type=click.IntRange(1, 2**31 - 1), help="Only this run. [all]")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), default="debug", help="Only from here on.")
@click.option("--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def logs(task_id: str, **how: Any) -> None:
    """Show what the task ID logged, run by run.

    With --follow also what it is still to log, a second after it did. Ctrl-C leaves; the task goes on.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.task_log import show_logs

    use_running_database()
    with suppress(KeyboardInterrupt):
        show_logs(task_id, **how)


@task.command()
@click.argument("task_ids", nargs=-1, metavar="[ID]...")
@click.option("--queue", help="Instead of ids: the tasks of this queue.")
@click.option("--actor", help="Instead of ids: the tasks of this actor.")
@click.option("--state", type=click.Choice(["waiting", "running"]), help="Instead of ids: those that wait, or run.")
@click.option("--older-than", type=Duration(), help="Instead of ids: those enqueued 90s, 30m, 2h, 1d … ago.")
@click.option("--dry-run", is_flag=True, help="Only count what matches.")
@click.option("--whole", is_flag=True, help="With ids: also the chain and the group that each belongs to.")
@click.option("--force", is_flag=True, help="Kill the process of one that runs if it has not ended after --grace.")
@click.option("--grace", type=Duration(), default="5s", show_default=True, help="See --force.")
@reason_option
@who_option
def cancel(task_ids: Sequence[str], dry_run: bool, whole: bool, **how: Any) -> None:
    """Cancel the tasks ID, or all that match.

    What waits is gone at once, what runs is asked to end. Of several options that say which tasks, all must match.
    """
    which = {name: how.pop(name) for name in ("queue", "actor", "state", "older_than")}
    is_filtered = any(value is not None for value in which.values())
    if bool(task_ids) == is_filtered:
        message = "Name tasks by their ids, or say which by --queue, --actor, --state and --older-than"
        raise click.UsageError(message)
    if (whole and is_filtered) or (dry_run and not is_filtered):
        message = (
            "--whole goes with ids" if is_filtered else "--dry-run goes with --queue, --actor, --state or --older-than"
        )
        raise click.UsageError(message)
    if is_filtered:
        _cancel_where(which, dry_run=dry_run, **how)
    else:
        _for_each(task_ids, lambda task_id: _cancelled(task_id, whole=whole, **how), "")


def _cancelled(task_id: str, **how: Any) -> str:
    import pipeline

    state = pipeline.cancel(task_id, **how)
    return "is cancelled" if state is pipeline.TaskState.CANCELLED else "runs and was asked to end"


def _cancel_where(which: dict[str, Any], *, dry_run: bool, **how: Any) -> None:
    import pipeline
    from pipeline.cli.environment import use_running_database

    use_running_database()
    counts = pipeline.cancel_where(**which, dry_run=dry_run, **how)
    ends = ("would be cancelled", "would be asked to end") if dry_run else ("are cancelled", "were asked to end")
    click.echo(f"{counts.waiting} waiting tasks {ends[0]}, {counts.running} running ones {ends[1]}.")


@task.command()
@_ids
@click.option("--again", is_flag=True, help="Also a task that has succeeded.")
@reason_option
@who_option
def retry(task_ids: Sequence[str], again: bool, who: str, reason: str) -> None:
    """Let tasks run now that wait, failed, were cancelled or skipped."""
    import pipeline

    retry_now = pipeline.retry_now
    _for_each(task_ids, lambda task_id: retry_now(task_id, who=who, reason=reason, again=again), "runs next")


@task.command()
@click.argument("task_id", metavar="ID")
@click.argument("span", type=Duration(), metavar="SPAN")
@reason_option
@who_option
def snooze(task_id: str, span: timedelta, who: str, reason: str) -> None:
    """Let the task ID, which waits, wait for SPAN (90s, 30m, 2h, 1d) at least."""
    import pipeline

    _for_each([task_id], lambda each: pipeline.snooze(each, for_=span, who=who, reason=reason), f"waits for {span}")


@task.command()
@click.argument("task_id", metavar="ID")
@click.argument("eta", type=Instant(), metavar="TIME")
@reason_option
@who_option
def reschedule(task_id: str, eta: datetime, who: str, reason: str) -> None:
    """Let the task ID, which waits, be due at TIME (2026-12-24T18:00, in your time zone unless it names one)."""
    import pipeline

    command = pipeline.reschedule
    _for_each([task_id], lambda each: command(each, eta=eta, who=who, reason=reason), f"is due at {eta.isoformat()}")


@task.command(context_settings={"ignore_unknown_options": True})
@click.argument("task_id", metavar="ID")
@click.argument("priority", type=click.IntRange(-32768, 32767))
@reason_option
@who_option
def reprioritise(task_id: str, priority: int, who: str, reason: str) -> None:
    """Give the task ID, which waits, another PRIORITY; lower runs first."""
    import pipeline

    command = pipeline.reprioritise
    _for_each([task_id], lambda each: command(each, priority, who=who, reason=reason), f"has the priority {priority}")


@task.command()
@click.argument("task_id", metavar="ID")
@click.argument("queue")
@reason_option
@who_option
def move(task_id: str, queue: str, who: str, reason: str) -> None:
    """Let the task ID, which waits, wait in another QUEUE."""
    import pipeline

    move_task = pipeline.move_task
    _for_each([task_id], lambda each: move_task(each, queue, who=who, reason=reason), f"waits in the queue {queue}")


@task.command()
@click.argument("task_id", metavar="ID")
@click.option("--args", type=Json(list, "JSON array"), help="Other positional arguments, as a JSON array.")
@click.option("--kwargs", type=Json(dict, "JSON object"), help="Other named arguments, as a JSON object.")
@click.option("--queue", help="Another queue.")
@click.option("--priority", type=click.IntRange(-32768, 32767), help="Another priority.")
@click.option("--delay", type=Duration(), help="Let it wait for 90s, 30m, 2h, 1d …")
@reason_option
@who_option
def clone(task_id: str, **how: Any) -> None:
    """Enqueue a copy of the task ID, and print the id of the new one."""
    import pipeline
    from pipeline.cli.environment import use_running_database

    use_running_database()
    click.echo(pipeline.clone(task_id, **how))


def _for_each(task_ids: Sequence[str], command: Callable[[str], str | None], done: str) -> None:
    """Command tasks one by one; what is wrong with one does not keep the others from it.

    What the command returns is told, or else ``done``. The first failure decides the exit status.
    """
    from pipeline.cli.environment import use_running_database

    use_running_database()
    failures: list[Failure] = []
    for task_id in task_ids:
        try:
            told = command(task_id) or done
        except Exception as error:
            if len(task_ids) == 1 or not Failure.can_tell(error):
                raise
            failures.append(Failure.of(error))
            failures[-1].show()
        else:
            click.echo(f"The task {task_id} {told}.")
    if failures:
        click.get_current_context().exit(failures[0].exit_code)
