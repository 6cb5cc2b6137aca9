"""``pipeline queue``: look at queues, pause and resume them."""

from __future__ import annotations

import getpass
import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A time span such as ``90s``, ``30m``, ``2h`` or ``1d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no time span; write 90s, 30m, 2h or 1d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_who = click.option("--who", default=getpass.getuser, show_default="your user name", help="Whom the audit trail names.")
_reason = click.option("--reason", default="", help="Why, for whoever wonders.")


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
@_reason
@_who
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
@_reason
@_who
def resume(name: str, reason: str, who: str) -> None:
    """Let workers claim tasks of the queue NAME again."""
    from pipeline import resume_queue
    from pipeline.cli.environment import use_running_database

    use_running_database()
    resume_queue(name, who=who, reason=reason)
    click.echo(f"The queue {name} goes on.")
