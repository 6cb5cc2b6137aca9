"""The command line: ``pipeline COMMAND``.

Each command is a module of this package, imported when it is used. Further commands come from installed packages that
name them in the entry point group ``pipeline.commands``.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from pipeline.cli.failure import Failure
from pipeline.store.audit import acting_from

#: Our commands, in the order in which they are needed.
COMMANDS = (
    "up",
    "migrate",
    "worker",
    "web",
    "status",
    "inspect",
    "task",
    "queue",
    "gate",
    "token",
    "audit",
    "doctor",
    "repair",
)


class CommandLine(click.Group):
    """Our commands and those of others, loaded by name; errors become one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return [*COMMANDS, *sorted(_plugins())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name in COMMANDS:
            command: click.Command = getattr(import_module(f"pipeline.cli.{cmd_name}"), cmd_name)
            return command
        plugin = _plugins().get(cmd_name)
        return None if plugin is None else _on_running_database(plugin.load())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; those of others are not imported just for this."""
        ours = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        rows = [(name, command.get_short_help_str(69)) for name, command in ours if command is not None]
        rows += [(name, f"(from {plugin.module})") for name, plugin in sorted(_plugins().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what went wrong is told in a line, or in full with ``--debug``."""
        try:
            with acting_from("cli"):
                return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") or not Failure.can_tell(error):
                raise
            raise Failure.of(error) from None


@click.command(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pipeline-tasks", prog_name="pipeline")
@click.option("--debug", is_flag=True, help="Show errors with their traceback.")
def main(debug: bool) -> None:
    """A task queue on Dramatiq and PostgreSQL alone.

    The database is the one in DATABASE_URL; without it, the embedded one that "pipeline up" runs. Exit status: 0 done,
    1 failed, 2 wrong usage or configuration, 3 the schema is outdated, 4 the database does not answer, 5 no such task,
    queue, actor, gate, worker, schedule or token, 78 a worker cannot load its actors.
    """


def _plugins() -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group="pipeline.commands") if each.name not in COMMANDS}


def _on_running_database(command: click.Command) -> click.Command:
    """Let a command of others find the broker bound to the database in use, which must be running."""
    bound = copy.copy(command)
    if command.callback is not None:
        bound.callback = _bound(command.callback)
    return bound


def _bound(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        from pipeline.cli.environment import use_running_database

        use_running_database()
        return callback(*args, **kwargs)

    return run
