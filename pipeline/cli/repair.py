"""``pipeline repair``: mend what a restore or somebody's hand has left."""

from __future__ import annotations

import click

from pipeline.cli.options import reason_option, who_option


@click.command()
@click.argument("what", type=click.Choice(["ready"]), expose_value=False)
@reason_option
@who_option
def repair(reason: str, who: str) -> None:
    r"""Mend the queue after a restore, or after rows were deleted by hand.

    \b
    ready      let every unfinished task wait again that neither waits nor is claimed

    Safe while workers run, and safe to repeat.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.runtime import ask
    from pipeline.store import tasks
    from pipeline.store.audit import By

    use_running_database()
    count = ask(tasks.repair_ready, By(who, reason))
    click.echo(f"{count} tasks wait again." if count else "Nothing was missing.")
