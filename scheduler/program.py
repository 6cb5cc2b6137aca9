"""``pipeline scheduler``: the daemon as a program."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import click


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
def scheduler(modules: tuple[str, ...]) -> None:
    """Fire schedules that send to the actors of the MODULEs (default: actors) when they are due.

    Any number may run, on any machines: each due instant is fired once. Ctrl-C or SIGTERM stops within two seconds;
    whatever is due meanwhile is fired by another one, or by the next as the schedule says.
    """
    from pipeline.cli.environment import prepare_for_workers
    from pipeline.db import migrate
    from pipeline.runtime import our_broker
    from pipeline.supervisor.modules import load
    from pipeline.supervisor.signals import STOP, Signals
    from scheduler.daemon import Daemon

    settings = prepare_for_workers()
    with Signals(*STOP) as signals:
        broker = load(modules or ("actors",))
        migrate.check(our_broker().url, settings.schema_name)
        _sync()
        daemon = Daemon(broker)
        daemon.start()
        while not signals.wait(60):
            pass
        daemon.stop()


def _sync() -> None:
    """Bring the schedules that are declared in code into the database."""
    if find_spec("scheduler.declare") is not None:
        import_module("scheduler.declare").sync("scheduler")
