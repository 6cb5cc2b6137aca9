"""Running what was enqueued, in the caller's thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dramatiq.message import get_encoder

from pipeline.broker.inline import error_of
from pipeline.errors import TasksWithoutEnd
from pipeline.states import Outcome
from pipeline.store import testing
from pipeline.testing.bench import Bench
from pipeline.testing.database import ask, broker_in_use, queues_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.broker.outcome import Conclusion

_MAX_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended."""

    task_id: str
    actor: str
    queue: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Which attempt it was, from 1.
    attempt: int
    outcome: Outcome
    #: What was raised, itself; None if nothing was.
    error: BaseException | None
    #: What the actor returned, as it comes back from JSON.
    result: Any


def run_pending(*, queue: str | None = None, limit: int | None = None, raise_errors: bool = True) -> list[Run]:
    """Run what is due, and what that sends, one task after the other in this thread.

    What is delayed stays, and so does what is to be retried later. ``limit=1`` goes through a chain step by step.

    Args:
        queue: Only the tasks in this queue.
        limit: At most so many runs.
        raise_errors: Raise the error that a task ended its last run here with, be it that it will be retried. That of
            the first such task, when all is done.

    Returns:
        The runs in their order.

    Raises:
        TasksWithoutEnd: After 1,000 runs something is still due, without a ``limit``.
        QueueUnknown: No such queue is declared.
        ValueError: ``limit`` is below 1.
    """
    if limit is not None and (isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit is a number of runs from 1, not {limit!r}")
    return _run(queue, limit, _MAX_RUNS, lambda: False, raise_errors=raise_errors)


def drain(*, queue: str | None = None, max_runs: int = _MAX_RUNS, raise_errors: bool = True) -> list[Run]:
    """Run until nothing waits: also what is delayed, and retries, in the order of their etas, without waiting for them.

    The eta of what comes next is brought forward in the database, so times that the tasks look at stay what they are.
    What is in a paused queue stays.

    Args:
        queue: Only the tasks in this queue.
        max_runs: With more runs than that, something is taken to go on for ever.
        raise_errors: Raise the error of the first task that failed for good, when all is done.

    Returns:
        The runs in their order.

    Raises:
        TasksWithoutEnd: More than ``max_runs``; it names what keeps coming.
        QueueUnknown: No such queue is declared.
        ValueError: ``max_runs`` is below 1.
    """
    if isinstance(max_runs, bool) or max_runs < 1:
        raise ValueError(f"max_runs is a number of runs from 1, not {max_runs!r}")
    broker = broker_in_use()
    queues = queues_of(broker, queue)
    return _run(queue, None, max_runs, lambda: ask(broker, testing.bring_forward, queues), raise_errors=raise_errors)


def _run(
    queue: str | None, limit: int | None, max_runs: int, bring_forward: Callable[[], int | bool], *, raise_errors: bool
) -> list[Run]:
    broker = broker_in_use()
    runs: list[Run] = []
    with Bench(broker, queues_of(broker, queue)) as bench:
        while limit is None or len(runs) < limit:
            has_run = bench.run_next()
            runs += map(_as_run, bench.take_concluded())
            if limit is None and len(runs) > max_runs:
                raise TasksWithoutEnd([run.actor for run in runs[-20:]], f"there were more than {max_runs} runs")
            if not has_run and not bring_forward():
                break
    if raise_errors:
        _raise_first(runs)
    return runs


def _as_run(conclusion: Conclusion) -> Run:
    proxy = conclusion.proxy
    has_succeeded = conclusion.outcome is Outcome.SUCCEEDED
    result = json.loads(conclusion.extra or "{}").get("result") if has_succeeded else None
    return Run(
        task_id=proxy.message_id,
        actor=proxy.actor_name,
        queue=proxy.queue_name,
        args=tuple(proxy.args),
        kwargs=proxy.kwargs,
        attempt=proxy.attempt,
        outcome=conclusion.outcome,
        error=None if has_succeeded else error_of(conclusion),
        result=None if result is None else get_encoder().decode(json.dumps(result).encode()),
    )


def _raise_first(runs: Iterable[Run]) -> None:
    """Raise what the first task ended with that did not end well."""
    for run in {run.task_id: run for run in runs}.values():
        if run.error is not None and run.outcome in {Outcome.FAILED, Outcome.RETRY}:
            run.error.add_note(f"in attempt {run.attempt} of the task {run.task_id} of {run.actor}")
            raise run.error
