"""``pipeline doctor``: whether everything is as it should be."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--strict", is_flag=True, help="Exit with status 1 also if there is something to warn of.")
def doctor(as_json: bool, strict: bool) -> None:
    """Look whether everything is as it should be, and say what to do where it is not.

    Changes nothing, and holds nobody up. Exit status 1 if something failed.
    """
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.commands.doctor import examine, is_well
    from pipeline.runtime import get_broker

    settings = use_running_database()
    broker = get_broker()
    findings = list(examine(broker.url, broker.sql, settings))
    if as_json:
        tables.show_json(findings)
    else:
        tables.show(tables.finding_table(findings))
    click.get_current_context().exit(0 if is_well(findings, strict=strict) else 1)
