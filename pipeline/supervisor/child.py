"""One worker process, as the master starts it: Dramatiq's Worker, until told to stop.

SIGTERM or SIGINT: tasks in flight may finish, for ``stop_seconds``; what was not started, and what did not finish in
time, waits again for other workers.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click
import dramatiq

from pipeline import logs
from pipeline.broker.broker import PostgresBroker
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.logger import get_logger
from pipeline.settings import get_settings
from pipeline.supervisor.plan import EXIT_UNUSABLE, Plan, split_queues
from pipeline.supervisor.report import Reporter
from pipeline.supervisor.signals import STOP, Signals

#: How often the process looks at itself.
_LOOK_SECONDS = 0.5
_FIRST_LOOK_SECONDS = 0.02
#: How often an idle thread looks whether it shall stop.
_IDLE_MS = 250

log = get_logger("pipeline.supervisor.child")  # run as a program, its name would be __main__


@click.command()
@click.option("--report", type=int, required=True)
@click.option("--threads", type=int, required=True)
@click.option("--queues")
@click.argument("modules", nargs=-1)
def main(report: int, threads: int, queues: str | None, modules: tuple[str, ...]) -> None:
    """Run one worker process. Only for the master."""
    with Signals(*STOP) as signals:
        logs.configure(get_settings())
        plan = Plan(modules, split_queues(queues), threads)
        try:
            broker = _load(plan)
        except PipelineError as error:
            log.critical("worker.unusable", error=str(error), exc_info=error.__cause__)
            sys.exit(EXIT_UNUSABLE)
        sys.exit(_work(broker, plan, signals, Reporter(report)))


def _load(plan: Plan) -> PostgresBroker:
    """Import the modules and find the broker that their actors belong to.

    Raises:
        ConfigurationError: That cannot work; its cause is the module's own exception, if there is one.
    """
    for module in plan.modules:
        _import(module)
    broker = dramatiq.get_broker()
    if not isinstance(broker, PostgresBroker):
        raise ConfigurationError(
            f"The modules set a {type(broker).__name__} as Dramatiq's broker, not a PostgresBroker"
        )
    names = ", ".join(plan.modules)
    if not broker.actors:
        raise ConfigurationError(f"There is no actor in {names}")
    known = broker.get_declared_queues()
    if unknown := set(plan.queues) - known:
        raise ConfigurationError(f"No actor in {names} uses the queue {_listed(unknown)}; there is {_listed(known)}")
    return broker


def _import(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"There is no module {module} (looked in {Path.cwd()} too)") from None
        raise ConfigurationError(f"The module {module} cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigurationError(f"The module {module} cannot be imported: {error!r}") from error


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _work(broker: PostgresBroker, plan: Plan, signals: Signals, reporter: Reporter) -> int:
    """Work until asked to stop, or until this process had better be replaced."""
    worker = dramatiq.Worker(
        broker, queues=set(plan.queues) or None, worker_threads=plan.threads, worker_timeout=_IDLE_MS
    )
    worker.start()
    reporter.working_as(0)
    # Often at first: should this process die, the master can only help a worker that it has heard of.
    while not signals.wait(_LOOK_SECONDS if broker.hub.worker_id else _FIRST_LOOK_SECONDS):
        reporter.working_as(broker.hub.worker_id)
        if broker.hub.needs_recycling or not broker.hub.is_alive():
            log.warning("worker.recycling", worker_id=broker.hub.worker_id)
            break
    reporter.working_as(broker.hub.worker_id)
    worker.stop(timeout=int(broker.settings.stop_seconds * 1000))
    return 0


if __name__ == "__main__":
    main()
