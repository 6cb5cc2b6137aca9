"""The same command on many tasks."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from api.shapes.commands import Body, Cancel, Move, Reason, Reprioritise, Reschedule, Retry, Snooze
from api.shapes.tasks import Count, Task, TaskFilters
from pipeline.states import TaskAction, TaskState

MOST = 1000


class TaskFilter(Body, TaskFilters):
    """Which tasks: those that match all of what is given. Something has to be."""

    @model_validator(mode="after")
    def _narrows_down(self) -> Self:
        if not any(self.given.values()):
            message = "nothing narrows it down: nothing here is done to all tasks"
            raise ValueError(message)
        return self


class Selected(Reason):
    """Which tasks a command is meant for."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="These tasks."
    )
    filter: TaskFilter | None = Field(default=None, description="Instead of `ids`: the newest tasks that match.")
    limit: Annotated[int, Field(ge=1, le=MOST)] = Field(default=MOST, description="With `filter`: at most so many.")
    dry_run: bool | None = Field(
        default=None,
        description="Only count them and show some. With `filter` that is the default: say false to do it.",
    )

    @model_validator(mode="after")
    def _is_selected_once(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            message = "name the tasks by one of ids and filter"
            raise ValueError(message)
        return self

    @property
    def is_dry(self) -> bool:
        """Whether nothing is to be done."""
        return self.filter is not None if self.dry_run is None else self.dry_run


class CancelMany(Selected, Cancel):
    """Cancel tasks."""


class RetryMany(Selected, Retry):
    """Let tasks run now."""


class SnoozeMany(Selected, Snooze):
    """Let waiting tasks do so for a while at least."""


class RescheduleMany(Selected, Reschedule):
    """Let waiting tasks be due at another time."""


class ReprioritiseMany(Selected, Reprioritise):
    """Give waiting tasks another priority."""


class MoveMany(Selected, Move):
    """Let waiting tasks do so in another queue."""


class BulkItem(BaseModel):
    """What came of it for one task."""

    task_id: str
    status: int = Field(description="As the command on this task alone would have answered: 200, 202, 404 or 409.")
    problem: str | None = Field(description="The type of the problem, if it is one.")
    state: TaskState | None = Field(description="In which it is now; null: it is unknown.")
    allowed_actions: list[TaskAction] = Field(description="What can be done to it in this state.")


class BulkAnswer(BaseModel):
    """What came of it."""

    action: TaskAction
    dry_run: bool
    matched: Count = Field(description="How many tasks were meant.")
    counts: dict[str, int] = Field(description="How many items have each status.")
    items: list[BulkItem] = Field(description="One for each task, in the order of `ids`, else the newest first.")
    sample: list[Task] = Field(description="In a dry run: the first of those that were meant.")
