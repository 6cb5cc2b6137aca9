"""``pipeline worker``: run actors."""

from __future__ import annotations

import click


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("-p", "--processes", type=click.IntRange(min=1), help="Worker processes. [PIPELINE_PROCESSES, 2]")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="Threads in each of them. [PIPELINE_THREADS, 8]")
@click.option("-Q", "--queues", metavar="A,B", help="Only these queues, separated by commas. [all]")
@click.option(
    "--max-tasks-per-child", type=click.IntRange(min=0), help="Replace a process after so many tasks. [0: never]"
)
@click.option("--max-memory-mb", type=click.IntRange(min=0), help="Replace a process that is larger. [0: never]")
def worker(
    modules: tuple[str, ...],
    processes: int | None,
    threads: int | None,
    queues: str | None,
    max_tasks_per_child: int | None,
    max_memory_mb: int | None,
) -> None:
    """Run the actors of the MODULEs (default: actors).

    A process that dies is replaced. Ctrl-C or SIGTERM lets tasks in flight finish, for PIPELINE_STOP_SECONDS at most;
    a second one ends everything at once. Tasks that did not finish run again elsewhere. SIGHUP replaces the processes
    one by one, each when its tasks are done; SIGUSR1 logs what runs where.
    """
    from pipeline.cli.environment import prepare_for_workers
    from pipeline.db import migrate
    from pipeline.db.embedded import database_url
    from pipeline.supervisor.master import Master
    from pipeline.supervisor.plan import Plan, split_queues

    settings = prepare_for_workers()
    url = database_url(settings)
    migrate.check(url, settings.schema_name)
    plan = Plan(
        modules or ("actors",),
        split_queues(queues),
        threads or settings.threads,
        settings.max_tasks_per_child if max_tasks_per_child is None else max_tasks_per_child,
        settings.max_memory_mb if max_memory_mb is None else max_memory_mb,
    )
    click.get_current_context().exit(Master(plan, processes or settings.processes, url, settings).run())
