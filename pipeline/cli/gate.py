"""``pipeline gate``: what holds tasks back besides their turn."""

from __future__ import annotations

from datetime import timedelta

import click

from pipeline.cli.options import Duration, Limit, reason_option, who_option


@click.group()
def gate() -> None:
    """Look at gates; pause, resume and limit them.

    A GATE is actor:NAME, tenant:NAME or key:NAME (a concurrency_key). Queues have commands of their own.
    """


@gate.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_gates(as_json: bool) -> None:
    """Show the gates that are paused or limited, that tasks are through, or that some wait at."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.runtime import ask
    from pipeline.store import gates

    use_running_database()
    rows = ask(gates.gates)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(tables.gate_table(rows))


@gate.command()
@click.argument("name", metavar="GATE")
@click.option("--for", "resume_after", type=Duration(), help="Resume by itself after 90s, 30m, 2h, 1d … [never]")
@reason_option
@who_option
def pause(name: str, resume_after: timedelta | None, reason: str, who: str) -> None:
    """Start no task that has to pass GATE; what runs goes on."""
    from pipeline.cli.environment import use_running_database
    from pipeline.commands import gates
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    use_running_database()
    ask(gates.pause_gate, name, by=By(who, reason), resume_after=resume_after)
    click.echo(f"The gate {name} is paused{f' for {resume_after}' if resume_after else ''}.")


@gate.command()
@click.argument("name", metavar="GATE")
@reason_option
@who_option
def resume(name: str, reason: str, who: str) -> None:
    """Start tasks that have to pass GATE again."""
    from pipeline.cli.environment import use_running_database
    from pipeline.commands import gates
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    use_running_database()
    ask(gates.resume_gate, name, by=By(who, reason))
    click.echo(f"The gate {name} is open.")


@gate.command()
@click.argument("name", metavar="GATE")
@click.argument("max_running", metavar="N", type=Limit())
@reason_option
@who_option
def limit(name: str, max_running: int | None, reason: str, who: str) -> None:
    """Let N tasks through GATE at a time, or as many as their actors say ("none")."""
    from pipeline.cli.environment import use_running_database
    from pipeline.commands import gates
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    use_running_database()
    ask(gates.limit_gate, name, max_running, by=By(who, reason))
    click.echo(f"The gate {name} has {'its own limit' if max_running is None else f'the limit {max_running}'}.")
