"""``pipeline worker``: run actors; look at workers, and let them end."""

from __future__ import annotations

import getpass
import socket

import click

_SELF_DESCRIBING = {"-h", "--help"}


class RunUnlessNamed(click.Group):
    """Commands about processes; what is none of their names are the arguments of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of ``run`` in front of its arguments."""
        if not args or (args[0] not in self.commands and args[0] not in _SELF_DESCRIBING):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say what may follow."""
        others = [f"| {name}" for name in self.list_commands(ctx) if name != "run"]
        return [*self.commands["run"].collect_usage_pieces(ctx), *others]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options of ``run``, which is what most ask for, and then the other commands."""
        self.commands["run"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=RunUnlessNamed)
def worker() -> None:
    """Run the actors of the MODULEs (default: actors).

    A process that dies is replaced. Ctrl-C or SIGTERM lets tasks in flight finish, for PIPELINE_STOP_SECONDS at most;
    a second one ends everything at once. Tasks that did not finish run again elsewhere. SIGHUP replaces the processes
    one by one, each when its tasks are done; SIGUSR1 logs what runs where.
    """


@worker.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("-p", "--processes", type=click.IntRange(min=1), help="Worker processes. [PIPELINE_PROCESSES, 2]")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="Threads in each of them. [PIPELINE_THREADS, 8]")
@click.option("-Q", "--queues", metavar="A,B", help="Only these queues, separated by commas. [all]")
@click.option(
    "--max-tasks-per-child", type=click.IntRange(min=0), help="Replace a process after so many tasks. [0: never]"
)
@click.option("--max-memory-mb", type=click.IntRange(min=0), help="Replace a process that is larger. [0: never]")
def run(
    modules: tuple[str, ...],
    processes: int | None,
    threads: int | None,
    queues: str | None,
    max_tasks_per_child: int | None,
    max_memory_mb: int | None,
) -> None:
    """Run actors; the word can be left out unless a MODULE is called like one of these commands."""
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


@worker.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def list_workers(as_json: bool) -> None:
    """Show the workers, those that ended within the last hour, too, and what runs in each."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from pipeline.runtime import ask
    from pipeline.store import status

    use_running_database()
    rows = ask(status.workers)
    if as_json:
        tables.show_json(rows)
    else:
        tables.show(tables.worker_table(rows), tables.running_table(rows))


@worker.command()
@click.argument("worker_ids", nargs=-1, type=click.IntRange(min=1), metavar="[ID]...")
@click.option("--host", help="All that are alive on this machine.")
@click.option("--all", "everyone", is_flag=True, help="All that are alive.")
@click.option("--reason", default="", help="Why, for whoever wonders.")
@click.option("--who", default=getpass.getuser, show_default="your user name", help="Whom the audit trail names.")
def drain(worker_ids: tuple[int, ...], host: str | None, everyone: bool, reason: str, who: str) -> None:
    """Let workers claim nothing more, finish their tasks and end, without a successor.

    They learn it with their next beat. A master all of whose processes were drained ends, too.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.commands.workers import drain_workers
    from pipeline.runtime import ask
    from pipeline.store.audit import By

    if (bool(worker_ids), host is not None, everyone).count(True) != 1:
        message = "Name workers by their numbers (pipeline worker list), or say --host NAME, or --all"
        raise click.UsageError(message)
    use_running_database()
    for worker_id in ask(drain_workers, worker_ids or None, host=host, by=By(who, reason)):
        click.echo(f"The worker {worker_id} drains.")


@worker.command()
def check() -> None:
    """Tell whether workers of this machine (or container) are ready: the question of an orchestrator.

    Exit status 0 if one has beaten within its lease. One whose three predecessors died young counts once it has lived
    for 30 seconds.
    """
    from pipeline.cli.environment import use_running_database
    from pipeline.cli.failure import Failure
    from pipeline.runtime import ask
    from pipeline.store import status

    settings = use_running_database()
    host = socket.gethostname()
    # Compared by the database's clock: ours may go wrong without any harm to the tasks.
    count = ask(status.count_ready_workers, seconds=settings.lease_seconds, host=host)
    if not count:
        message = f"No worker on {host} is ready: none beats, or their processes die one after the other"
        raise Failure(message)
    click.echo(f"{count} worker{'s are' if count > 1 else ' is'} ready on {host}.")
