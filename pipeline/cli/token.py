"""``pipeline token``: who may use the HTTP API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pipeline.cli.options import Duration, reason_option, who_option
from pipeline.commands.tokens import check_name
from pipeline.store.tokens import SCOPES


class Lifetime(Duration):
    """A time span, or ``never`` to expire."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | None:  # type: ignore[override]
        """Read it."""
        return None if value == "never" else super().convert(value, param, ctx)


def _named(ctx: click.Context, param: click.Parameter, name: str) -> str:
    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return name


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of the HTTP API."""


@token.command()
@click.argument("name", callback=_named)
@click.option("--scope", type=click.Choice(SCOPES), default="read", show_default=True, help="What it is good for.")
@click.option("--expires", "lifetime", type=Lifetime(), default="90d", show_default=True, help="90d, 12h … or never.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, the token among it.")
@reason_option
@who_option
def create(name: str, scope: str, lifetime: timedelta | None, as_json: bool, reason: str, who: str) -> None:
    """Make a token called NAME and show it, which happens once.

    read: look at tasks, queues and workers, without arguments, results and error texts. operate: see all of it, and
    enqueue, cancel, retry, pause and so on. admin: everything. The audit names the token for whatever is done with it.
    """
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.commands.tokens import create_token, new_secret
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    use_running_database()
    secret = new_secret()
    until = ask(create_token, name, secret=secret, scope=scope, lifetime=lifetime, by=By(who, reason))
    if as_json:
        tables.show_json({"name": name, "scope": scope, "expires_at": until, "token": secret})
    else:
        good = f"until {until.astimezone():%Y-%m-%d %H:%M}" if until else "until it is revoked"
        click.echo(f"{secret}\n\nThis is the token {name} ({scope}, {good}). It is not shown again.")


@token.command("list")
@click.option("--all", "wants_all", is_flag=True, help="Also those that have expired or were revoked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_tokens(wants_all: bool, as_json: bool) -> None:
    """Show the tokens that are good, the newest first. What they are is known to nobody but their holders."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.runtime import ask
    from pipeline.store import tokens

    use_running_database()
    rows = ask(tokens.find_all, ended=wants_all)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(tables.token_table(rows))


@token.command()
@click.argument("name")
@reason_option
@who_option
def revoke(name: str, reason: str, who: str) -> None:
    """End the token NAME, and the sessions of browsers that logged in with it, at once."""
    from pipeline.cli.environment import use_running_database
    from pipeline.commands.tokens import revoke_token
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    use_running_database()
    ask(revoke_token, name, by=By(who, reason))
    click.echo(f"The token {name} is revoked.")
