"""``pipeline queue``: look at queues, pause and resume them."""

from __future__ import annotations

from datetime import timedelta

import click

from pipeline.cli.options import Duration, Limit, reason_option, who_option


@click.group()
def queue() -> None:
    """Look at queues, pause and resume them."""


@queue.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_queues(as_json: bool) -> None:
    """Show what waits and runs in each queue, and what is paused by whom and why."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.runtime import ask
    from pipeline.store import status

    use_running_database()
    rows = ask(status.queues)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(tables.queue_table(rows), tables.pause_table(rows))


@queue.command()
@click.argument("name")
@click.option("--for", "resume_after", type=Duration(), help="Resume by itself after 90s, 30m, 2h, 1d … [never]")
@reason_option
@who_option
def pause(name: str, resume_after: timedelta | None, reason: str, who: str) -> None:
    """Let no worker claim tasks of the queue NAME; what runs goes on.

    Pausing it again changes until when, by whom and why.
    """
    from pipeline import pause_queue
    from pipeline.cli.environment import use_running_database

    use_running_database()
    pause_queue(name, who=who, reason=reason, resume_after=resume_after)
    click.echo(f"The queue {name} is paused{f' for {resume_after}' if resume_after else ''}.")


@queue.command()
@click.argument("name")
@reason_option
@who_option
def resume(name: str, reason: str, who: str) -> None:
    """Let workers claim tasks of the queue NAME again."""
    from pipeline import resume_queue
    from pipeline.cli.environment import use_running_database

    use_running_database()
    resume_queue(name, who=who, reason=reason)
    click.echo(f"The queue {name} goes on.")


@queue.command()
@click.argument("name")
@click.argument("max_running", metavar="N", type=Limit())
@reason_option
@who_option
def limit(name: str, max_running: int | None, reason: str, who: str) -> None:
    """Let N tasks of the queue NAME run at a time, over all workers; "none" for any number.

    Counted are runs that begin from then on.
    """
    from pipeline import limit_queue
    from pipeline.cli.environment import use_running_database

    use_running_database()
    limit_queue(name, max_running, who=who, reason=reason)
    click.echo(f"The queue {name} has {'no limit' if max_running is None else f'the limit {max_running}'}.")


@queue.command()
@click.argument("name")
@click.argument("factor", metavar="W", type=click.FloatRange(0.001, 1000))
@reason_option
@who_option
def weight(name: str, factor: float, reason: str, who: str) -> None:
    """Let the queue NAME come first W times as often as others of its priority that have 1."""
    from pipeline import weigh_queue
    from pipeline.cli.environment import use_running_database

    use_running_database()
    weigh_queue(name, factor, who=who, reason=reason)
    click.echo(f"The queue {name} has the weight {factor:g}.")
