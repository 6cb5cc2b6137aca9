"""``pipeline worker``: run actors."""

from __future__ import annotations

import click


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("-p", "--processes", type=click.IntRange(min=1), help="Worker processes. [PIPELINE_PROCESSES, 2]")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="Threads in each of them. [PIPELINE_THREADS, 8]")
@click.option("-Q", "--queues", metavar="A,B", help="Only these queues, separated by commas. [all]")
def worker(modules: tuple[str, ...], processes: int | None, threads: int | None, queues: str | None) -> None:
    """Run the actors of the MODULEs (default: actors).

    A process that dies is replaced. Ctrl-C or SIGTERM lets tasks in flight finish, for PIPELINE_STOP_SECONDS at most;
    a second one ends everything at once. Tasks that did not finish run again elsewhere.
    """
    from pipeline.cli.environment import prepare
    from pipeline.db import migrate
    from pipeline.db.embedded import database_url
    from pipeline.supervisor.master import Master
    from pipeline.supervisor.plan import Plan, split_queues

    settings = prepare()
    url = database_url(settings)
    migrate.check(url, settings.schema_name)
    plan = Plan(modules or ("actors",), split_queues(queues), threads or settings.threads)
    click.get_current_context().exit(Master(plan, processes or settings.processes, url, settings).run())
