"""``pipeline migrate``: bring the database up to date, or tell what is missing."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.db.migrate import MigrationStatus, SchemaStatus
    from pipeline.settings import Settings


@click.command()
@click.option("--status", "wants_status", is_flag=True, help="List the migrations and where each stands.")
@click.option(
    "--check", "wants_check", is_flag=True, help="Exit with status 1, naming what is missing, if anything is."
)
def migrate(wants_status: bool, wants_check: bool) -> None:
    """Bring the database's schema up to date.

    Safe to repeat, and to start several times at once. Tables of the application follow: what installed packages name
    in the entry point group "pipeline.migrations" is called with the database's address.
    """
    from pipeline.cli.environment import prepare
    from pipeline.db.embedded import database_url
    from pipeline.db.migrate import status

    settings = prepare()
    url = database_url(settings)
    if wants_status or wants_check:
        found = status(url, settings.schema_name)
        _tell_status(found, is_complete=wants_status)
        click.get_current_context().exit(1 if wants_check and _lacks_something(found) else 0)
    applied = apply_all(url, settings)
    done = f"{len(applied)} files were applied; the" if applied else "The"
    click.echo(f"{done} schema is up to date.")


def apply_all(url: str, settings: Settings) -> list[str]:
    """Apply our migrations, then those of installed packages; return the names of ours."""
    from pipeline.db import migrate as schema

    applied = schema.migrate(url, settings.schema_name)
    for plugin in sorted(entry_points(group="pipeline.migrations"), key=lambda each: each.name):
        plugin.load()(url)
    return applied


def _lacks_something(found: SchemaStatus) -> bool:
    from pipeline.db.migrate import State

    return bool(found.missing or found.of_state(State.CHANGED))


def _tell_status(found: SchemaStatus, *, is_complete: bool) -> None:
    from pipeline.db.migrate import State

    for line in found.migrations:
        if is_complete or line.state is not State.APPLIED:
            click.echo(_line(line))
    for name in found.unknown_files if not is_complete else found.changed_files:
        click.echo(f"pending    {name}")
    for name in found.newer:
        click.echo(f"newer      {name} (this code is older than the database)")
    if not _lacks_something(found):
        click.echo("The schema is up to date.")


def _line(line: MigrationStatus) -> str:
    when = f"  {line.applied_at:%Y-%m-%d %H:%M:%S}" if line.applied_at else ""
    return f"{line.state.value:<10} {line.migration.name}{when}"
