"""The states of a task and the outcomes of a run, as words for people and as letters for the store."""

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
