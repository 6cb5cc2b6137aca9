"""The states of a task and the outcomes of a run, as words for people and as letters for the store."""

from collections.abc import Mapping
from enum import StrEnum


class TaskState(StrEnum):
    """What a person sees. Retrying is ``scheduled`` or ``queued`` with an attempt above 0."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})


class TaskAction(StrEnum):
    """What people do to a task; the audit trail names it so."""

    CANCEL = "cancel"
    RETRY = "retry"
    SNOOZE = "snooze"
    RESCHEDULE = "reschedule"
    REPRIORITISE = "reprioritise"
    MOVE = "move"
    CLONE = "clone"


_ENDED = (TaskAction.RETRY, TaskAction.CLONE)
_ALLOWED: Mapping[TaskState, tuple[TaskAction, ...]] = {
    TaskState.SCHEDULED: tuple(TaskAction),
    TaskState.QUEUED: tuple(TaskAction),
    TaskState.RUNNING: (TaskAction.CANCEL, TaskAction.CLONE),
    TaskState.SUCCEEDED: _ENDED,  # to retry it, somebody must say that he means it
    TaskState.FAILED: _ENDED,
    TaskState.CANCELLED: _ENDED,
    TaskState.SKIPPED: _ENDED,
}


def allowed_actions(state: TaskState) -> tuple[TaskAction, ...]:
    """Tell what can be done to a task in a state."""
    return _ALLOWED[state]


class Outcome(StrEnum):
    """How a run ended. The letter is what ``attempt.outcome`` holds."""

    SUCCEEDED = "s"
    RETRY = "r"
    FAILED = "f"
    CANCELLED = "c"
    SKIPPED = "k"
    INTERRUPTED = "i"
    LOST = "l"

    @property
    def is_counted(self) -> bool:
        """Tell whether the run counts as an attempt: interrupted and lost runs do not."""
        return self in {Outcome.SUCCEEDED, Outcome.RETRY, Outcome.FAILED}
