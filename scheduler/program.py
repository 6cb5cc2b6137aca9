"""``pipeline scheduler``: the daemon as a program, and whether it lives."""

from __future__ import annotations

import os
import socket

import click

from pipeline.cli.worker import RunUnlessNamed

#: Far more daemons than anybody runs.
_MOST = 1000


#: No callback, as for ``pipeline schedule``: that would open the database before --help is told.
scheduler = RunUnlessNamed(
    "scheduler",
    help="""Fire schedules that send to the actors of the MODULEs (default: actors) when they are due.

    Any number may run, on any machines: each due instant is fired once. Ctrl-C or SIGTERM stops within two seconds;
    what is due then is fired by another one, or by the next one as the schedule says.
    """,
)


@scheduler.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
def run(modules: tuple[str, ...]) -> None:
    """Fire schedules; the word can be left out unless a MODULE is called like one of these commands.

    Unless PIPELINE_SCHEDULES says where they are declared, it is in the MODULEs.
    """
    from pipeline.cli.environment import prepare_for_workers, use_running_database
    from pipeline.db import migrate
    from pipeline.supervisor.modules import load
    from pipeline.supervisor.signals import STOP, Signals
    from scheduler.daemon import Daemon
    from scheduler.declare import sync

    prepare_for_workers()
    settings = use_running_database()
    with Signals(*STOP) as signals:
        broker = load(modules or ("actors",))
        migrate.check(broker.url, settings.schema_name)
        is_told = "schedules" in settings.model_fields_set
        sync(modules=modules if modules and not is_told else None)
        daemon = Daemon(broker)
        daemon.start()
        while not signals.wait(60):
            pass
        if not daemon.stop():
            os._exit(0)  # Python would wait for the thread


@scheduler.command()
def check() -> None:
    """Tell whether a scheduler of this machine (or container) lives: the question of an orchestrator.

    Exit status 0 if one has said so within the last minute.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.failure import Failure
    from pipeline.runtime import ask
    from pipeline.store import schedules

    use_running_database()
    host = socket.gethostname()
    count = sum(row.state == "alive" and row.host == host for row in ask(schedules.schedulers, limit=_MOST))
    if not count:
        raise Failure(f"No scheduler on {host} is alive: none has said so for a minute")
    click.echo(f"{count} scheduler{'s are' if count > 1 else ' is'} alive on {host}.")
