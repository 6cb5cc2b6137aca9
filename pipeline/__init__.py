"""A task queue on Dramatiq and PostgreSQL alone.

Importing this package makes its broker Dramatiq's global one, without opening a connection, so that nobody has to
remember a ``set_broker`` line before the first actor.
"""

from dramatiq import group
from dramatiq import pipeline as chain

from pipeline.broker.broker import PostgresBroker
from pipeline.broker.rate_limits import PostgresRateLimiterBackend
from pipeline.broker.results import PostgresResultBackend
from pipeline.context import CurrentTask, current_task
from pipeline.errors import (
    ActorUnknown,
    Cancelled,
    DatabaseUnavailable,
    DuplicateTask,
    EnqueueNotCommitted,
    LeaseLost,
    MessageNotEncodable,
    MessageTooLarge,
    PipelineError,
    QueueUnknown,
    ScheduleConflict,
    ScheduleInvalid,
    ScheduleUnknown,
    SchemaOutdated,
    Snoozed,
    TaskConflict,
    TaskIsRunning,
    TaskNotCancellable,
    TaskNotFound,
    TaskNotSucceeded,
    TransactionOwned,
    WorkerEnded,
    WorkerUnknown,
)
from pipeline.flow import (
    drain_worker,
    limit_actor,
    limit_key,
    limit_queue,
    pause_actor,
    pause_queue,
    pause_tenant,
    resume_actor,
    resume_queue,
    resume_tenant,
    weigh_queue,
)
from pipeline.middleware.retries import Backoff
from pipeline.operate import cancel, cancel_where, clone, move_task, reprioritise, reschedule, retry_now, snooze
from pipeline.runtime import actor, enlist, get_broker, install_broker, send_many
from pipeline.states import TaskState
from pipeline.store.cancels import CancelCounts

__all__ = [
    "ActorUnknown",
    "Backoff",
    "CancelCounts",
    "Cancelled",
    "CurrentTask",
    "DatabaseUnavailable",
    "DuplicateTask",
    "EnqueueNotCommitted",
    "LeaseLost",
    "MessageNotEncodable",
    "MessageTooLarge",
    "PipelineError",
    "PostgresBroker",
    "PostgresRateLimiterBackend",
    "PostgresResultBackend",
    "QueueUnknown",
    "ScheduleConflict",
    "ScheduleInvalid",
    "ScheduleUnknown",
    "SchemaOutdated",
    "Snoozed",
    "TaskConflict",
    "TaskIsRunning",
    "TaskNotCancellable",
    "TaskNotFound",
    "TaskNotSucceeded",
    "TaskState",
    "TransactionOwned",
    "WorkerEnded",
    "WorkerUnknown",
    "actor",
    "cancel",
    "cancel_where",
    "chain",
    "clone",
    "current_task",
    "drain_worker",
    "enlist",
    "get_broker",
    "group",
    "limit_actor",
    "limit_key",
    "limit_queue",
    "move_task",
    "pause_actor",
    "pause_queue",
    "pause_tenant",
    "reprioritise",
    "reschedule",
    "resume_actor",
    "resume_queue",
    "resume_tenant",
    "retry_now",
    "send_many",
    "snooze",
    "weigh_queue",
]

install_broker()
