"""The five functions of a task queue that application code was written against before: same names, same arguments.

For new code the same is said more directly: ``actor.send()`` joins the transaction it is called in, ``max_retries`` and
``min_backoff`` of an actor decide about retries, ``current_task().report()`` reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from dramatiq import get_broker
from dramatiq.errors import Retry
from dramatiq.message import get_encoder
from dramatiq.middleware.retries import DEFAULT_MAX_BACKOFF
from dramatiq.results import Results
from dramatiq.results.backend import DEFAULT_TIMEOUT

from pipeline.broker.results import PostgresResultBackend
from pipeline.context import CurrentTask, find_current_task
from pipeline.db.pool import Deadline
from pipeline.errors import NoCurrentTask, TaskNotFound, TaskNotSucceeded
from pipeline.middleware.retries import Retries
from pipeline.progress import NOTHING, advanced, as_json
from pipeline.runtime import ask, our_broker
from pipeline.states import TaskState
from pipeline.store import tasks

if TYPE_CHECKING:
    from dramatiq import Actor, Message

    from pipeline.store.tasks import TaskRow

_MINUTE_MS = 60_000
#: Who reports from outside of a run means the one that goes on.
_ANY_RUN = 0


def enqueue_task_after_transaction(task: Actor[..., Any], *args: Any, **kwargs: Any) -> Message[Any]:
    """Enqueue a task with the transaction this is called in; at once where there is none.

    The transaction is that of ``pipeline.enlist``, of the Flask request, or of the running transactional actor. If it
    is rolled back there never was a task. The message's id is known before.
    """
    return task.send(*args, **kwargs)


def retry_task_with_exponential_backoff(task: Any = None, exc: BaseException | None = None) -> NoReturn:
    """End this run and let the task run again after 1, 2, 4, 8, 16 … minutes. Call it while handling an exception.

    Args:
        task: The running task. Anything else that existing code passes (``self``, the actor) stands for the task that
            runs in this thread.
        exc: What went wrong; it is what the attempt's history shows.

    Raises:
        dramatiq.errors.Retry: The task will run again.
        BaseException: ``exc`` itself, if the task will not run again: its ``max_retries`` are used up, or ``throws`` or
            ``retry_for`` say so.
        NoCurrentTask: Called outside an actor and without ``exc``.
    """
    running = task if isinstance(task, CurrentTask) else find_current_task()
    if running is None:
        raise exc or NoCurrentTask
    message, broker = running.message, get_broker()
    error = exc or Retry()
    if not any(each.will_retry(broker, message, error) for each in broker.middleware if isinstance(each, Retries)):
        raise error
    delay_ms = min(_MINUTE_MS * 2 ** message.options.get("retries", 0), DEFAULT_MAX_BACKOFF)
    raise Retry(str(error), delay=delay_ms) from exc


def get_task_status(task_id: str) -> dict[str, Any] | None:
    """Return what is known of a task; None for an unknown id.

    The keys are those of :func:`as_status`.
    """
    row = _find(task_id)
    return None if row is None else as_status(row)


def as_status(row: TaskRow) -> dict[str, Any]:
    """Describe a task in words of this package and, where they differ, in those of code written before it.

    ``status`` is ``state``, ``name`` is ``actor``, ``error_message`` is ``error``. Times are aware. ``result`` is
    what the actor returned, None until it has.
    """
    return {
        "task_id": row.task_id,
        "name": row.actor,
        "actor": row.actor,
        "queue": row.queue,
        "status": row.state.value,
        "state": row.state.value,
        "attempt": row.attempt,
        "progress": row.progress,
        "note": row.note,
        "step": row.step,
        "done": row.done,
        "total": row.total,
        "expected_at": row.expected_at,
        "result": _result(row),
        "error": row.error,
        "error_message": row.error,
        "priority": row.priority,
        "created_at": row.created_at,
        "eta": row.eta,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "worker_id": row.worker_id,
        "thread": row.thread,
        "last_seen_at": row.last_seen_at,
        "tags": row.tags,
        "entity": row.entity,
        "tenant": row.tenant,
        "correlation_id": row.correlation_id,
        "parent_id": row.parent_id,
    }


def get_task_result(task_id: str, block: bool = False, timeout: int | None = None) -> Any:
    """Return what a task's actor returned; None if that is no longer, or not, kept.

    Args:
        task_id: Which task.
        block: Wait until it has ended. By default None is returned while there is nothing, and for a task that is
            unknown or did not succeed.
        timeout: How long to wait, in milliseconds; ten seconds by default, as in Dramatiq.

    Raises:
        TaskNotFound: There is no such task, and it was to be waited for.
        TaskNotSucceeded: It has ended otherwise; ``state`` and ``error`` say how.
        dramatiq.results.ResultTimeout: It has not ended in time.
    """
    if not block:
        row = _find(task_id)
        return None if row is None else _result(row)
    row = _ended(task_id, Deadline((DEFAULT_TIMEOUT if timeout is None else timeout) / 1000))
    if row.state is not TaskState.SUCCEEDED:
        raise TaskNotSucceeded(task_id, row.state, row.error)
    return _result(row)


def _ended(task_id: str, deadline: Deadline) -> TaskRow:
    """Wait for the end of a task, and for another one if it was let run again before we looked."""
    while True:
        row = _find(task_id)
        if row is None:
            raise TaskNotFound(task_id)
        if row.state.is_final:
            return row
        _results().wait_for_end(row.task_id, deadline.left_seconds * 1000)


def _results() -> PostgresResultBackend:
    """Give the broker's result backend; one of our own if it has none, or another."""
    broker = our_broker()
    found = [each.backend for each in broker.middleware if isinstance(each, Results)]
    ours = [each for each in found if isinstance(each, PostgresResultBackend)]
    return ours[0] if ours else PostgresResultBackend(broker=broker)


def _find(task_id: str) -> TaskRow | None:
    known = tasks.as_task_id(task_id)
    return ask(tasks.status, known) if known else None


def _result(row: TaskRow) -> Any:
    """Decode a result; that of a task that did not succeed holds its exception, which ``error`` tells better."""
    if row.state is not TaskState.SUCCEEDED or row.result is None:
        return None
    return get_encoder().decode(row.result.encode())


def update_task_progress(task_id: str, progress: float, note: str = "") -> None:
    """Report how far a task is, in percent.

    From inside a task it is visible within a second, also if the task's own transaction is rolled back later; from
    elsewhere at once. Within a run progress never goes back: a lower percentage than was reported before is ignored. Of
    the note the first 500 characters are kept.

    Raises:
        ValueError: The progress is no number from 0 to 100, or the note no text.
        TaskNotFound: There is no such task (noticed outside a task only).
    """
    report = advanced(NOTHING, percent=progress, note=note)
    known = tasks.as_task_id(task_id)
    if known is None:
        raise TaskNotFound(task_id)
    running = find_current_task()
    if running is not None and running.task_id == known:
        running.progress(progress, note)
    elif running is not None:
        running.engine.report_progress(known, _ANY_RUN, report)
    elif not ask(tasks.report_progress, as_json([(known, _ANY_RUN, report)])):
        raise TaskNotFound(task_id)
