"""One worker process, as the master starts it: Dramatiq's Worker, until told to stop.

SIGTERM or SIGINT: what was not started waits again for other workers. Tasks in flight may finish; after
``notice_seconds`` Shutdown is raised in those that still run, and what has not ended after ``stop_seconds`` waits
again, too.

After ``max_tasks`` tasks, over ``max_memory_mb``, and at SIGHUP it leaves: it tells the master, which starts a
successor at once, claims nothing more, gives back what it has not started, and ends when the last of its tasks has
ended by itself. It does the same when somebody drains it, and then it has no successor.

SIGUSR1: it logs what runs in it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

import click
import dramatiq
from dramatiq.middleware import ShutdownNotifications

from pipeline import logs
from pipeline.broker.board import Board
from pipeline.broker.broker import PostgresBroker
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.logger import get_logger
from pipeline.settings import get_settings
from pipeline.supervisor import collector
from pipeline.supervisor.modules import load
from pipeline.supervisor.plan import EXIT_UNUSABLE, Plan, split_queues
from pipeline.supervisor.report import Reporter
from pipeline.supervisor.signals import REQUESTS, STOP, STOP_SET, Signals

#: How often the process looks at itself.
_LOOK_SECONDS = 0.5
_STOPPING_LOOK_SECONDS = 0.05
#: How long threads that have nothing to do, or do not listen, are waited for in the end.
_LAST_MS = 500
#: How often an idle thread looks whether it shall pause; when it shall stop it is told.
_IDLE_MS = 1000

log = get_logger("pipeline.supervisor.child")  # run as a program, its name would be __main__


@click.command()
@click.option("--report", type=int, required=True)
@click.option("--board", type=int, required=True)
@click.option("--threads", type=int, required=True)
@click.option("--max-tasks", type=int, default=0)
@click.option("--max-memory-mb", type=int, default=0)
@click.option("--queues")
@click.argument("modules", nargs=-1)
def main(
    report: int,
    board: int,
    threads: int,
    max_tasks: int,
    max_memory_mb: int,
    queues: str | None,
    modules: tuple[str, ...],
) -> None:
    """Run one worker process. Only for the master."""
    with Signals(*STOP, *REQUESTS) as signals:
        logs.configure(get_settings())
        plan = Plan(modules, split_queues(queues), threads, max_tasks, max_memory_mb)
        try:
            broker = _load(plan)
        except PipelineError as error:
            log.critical("worker.unusable", error=str(error), exc_info=error.__cause__)
            sys.exit(EXIT_UNUSABLE)
        os.set_inheritable(board, False)
        broker.runner.show_on(Board(board))
        collector.relax()
        sys.exit(_work(broker, plan, signals, Reporter(report)))


def _load(plan: Plan) -> PostgresBroker:
    """Import the modules and find the broker that their actors belong to.

    Raises:
        ConfigurationError: That cannot work; its cause is the module's own exception, if there is one.
    """
    broker = load(plan.modules)
    known = broker.get_declared_queues()
    if unknown := set(plan.queues) - known:
        names = ", ".join(plan.modules)
        raise ConfigurationError(f"No actor in {names} uses the queue {_listed(unknown)}; there is {_listed(known)}")
    return broker


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _work(broker: PostgresBroker, plan: Plan, signals: Signals, reporter: Reporter) -> int:
    """Work until asked to stop, or until this process had better be replaced."""
    worker = dramatiq.Worker(
        broker, queues=set(plan.queues) or None, worker_threads=plan.threads, worker_timeout=_IDLE_MS
    )
    worker.start()
    broker.hub.max_runs = plan.max_tasks
    reporter.working()
    reason = _work_until_told(broker, plan, signals)
    if reason is not None:
        log.info("worker.leaving", worker_id=broker.hub.worker_id, reason=reason)
        _finish_tasks(broker, signals, reporter)
    _stop(broker, worker, signals)
    return 0


def _work_until_told(broker: PostgresBroker, plan: Plan, signals: Signals) -> str | None:
    """Return why this process leaves, None if it was asked to stop."""
    while True:
        arrived = signals.wait(_LOOK_SECONDS)
        if not STOP_SET.isdisjoint(arrived):
            return None
        if signal.SIGUSR1 in arrived:
            _tell_what_runs(broker)
        if signal.SIGHUP in arrived:
            return "asked to"
        if (reason := _reason_to_leave(broker, plan)) is not None:
            return reason


def _reason_to_leave(broker: PostgresBroker, plan: Plan) -> str | None:
    hub = broker.hub
    if hub.is_draining:
        return "drained"
    if hub.needs_recycling:
        return "a thread died"
    if not hub.is_alive():
        return "the hub died"
    if hub.has_run_enough:
        return f"{plan.max_tasks} tasks"
    # After a task at least: a limit below what an idle process takes must not end one after the other.
    if plan.max_memory_mb and hub.runs and (resident := _resident_mb()) > plan.max_memory_mb:
        return f"{resident} MiB"
    return None


def _resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def _finish_tasks(broker: PostgresBroker, signals: Signals, reporter: Reporter) -> None:
    """Let what runs come to its end, however long it takes: a successor is at work, and nobody waits for us.

    When asked to stop, stop.
    """
    broker.hub.stop_claiming()
    reporter.leaving(is_drained=broker.hub.is_draining)
    while broker.hub.is_alive() and not broker.hub.is_idle:
        arrived = signals.wait(_LOOK_SECONDS)
        if not STOP_SET.isdisjoint(arrived):
            return
        if signal.SIGUSR1 in arrived:
            _tell_what_runs(broker)


def _stop(broker: PostgresBroker, worker: dramatiq.Worker, signals: Signals) -> None:
    """Let tasks in flight finish; cut short what takes too long, and leave what does not heed that.

    The time is kept here: Dramatiq's own way to wait for several threads gives up too early.
    """
    settings, began = broker.settings, time.monotonic()
    broker.hub.stop_claiming()
    for each in broker.middleware:
        if isinstance(each, ShutdownNotifications):
            each.before_worker_shutdown(broker, worker)
    _wait_until_idle(broker, signals, began + min(settings.notice_seconds, settings.stop_seconds))
    for task in broker.interrupter.running():
        if settings.notice_seconds < settings.stop_seconds and broker.interrupter.shut_down(task):
            log.info("task.shut_down", task_id=task.task_id, run=task.run)
    _wait_until_idle(broker, signals, began + settings.stop_seconds)
    for thread in worker.workers:
        thread.stop()
        worker.work_queue.knock()  # type: ignore[attr-defined]  # the engine's RunQueue
    worker.stop(timeout=_LAST_MS)


def _wait_until_idle(broker: PostgresBroker, signals: Signals, deadline: float) -> None:
    while broker.hub.is_alive() and not broker.hub.is_idle and time.monotonic() < deadline:
        if signal.SIGUSR1 in signals.wait(min(_STOPPING_LOOK_SECONDS, deadline - time.monotonic())):
            _tell_what_runs(broker)


def _tell_what_runs(broker: PostgresBroker) -> None:
    running = broker.hub.running()
    for proxy in running:
        log.info(
            "task.running",
            task_id=proxy.message_id,
            actor=proxy.actor_name,
            queue=proxy.queue_name,
            thread=proxy.thread.name if proxy.thread else None,
            seconds=round(time.monotonic() - (proxy.started_at or 0), 1),
        )
    log.info("worker.running", worker_id=broker.hub.worker_id, tasks=len(running))


if __name__ == "__main__":
    main()
