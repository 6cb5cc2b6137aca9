"""Tasks."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from api.shapes.lists import Listing, NamesOf, Page, Query, Selectable, Text
from pipeline.states import TaskState
from pipeline.store.tasks import as_task_id


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


#: What the store keeps as JSON, as a value. It is read only where it is shown.
Json = Annotated[Any, BeforeValidator(_loaded)]


class Task(Selectable):
    """A task, as it is now."""

    task_id: str = Field(description="A UUID.")
    actor: str
    queue: str
    priority: int = Field(description="Lower runs first.")
    state: TaskState
    attempt: int = Field(description="How often it was tried.")
    progress: int = Field(description="Percent.")
    note: str = Field(description="What it reported last.")
    step: str | None
    done: int | None
    total: int | None
    progress_at: datetime | None
    expected_at: datetime | None = Field(description="When it will have ended, if it goes on as it has so far.")
    created_at: datetime
    eta: datetime = Field(description="When it is, or was, due.")
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: int | None
    thread: int | None
    last_seen_at: datetime | None = Field(description="When its worker was last heard of, if that has fallen silent.")
    waits_for: str | None = Field(description="The gate at which it waits.")
    tags: list[str]
    entity: str | None
    tenant: str | None
    correlation_id: str | None
    parent_id: str | None
    error: str | None = Field(default=None, description="What went wrong last.")
    args: Json = Field(default=None, description="What it was sent with.")
    kwargs: Json = Field(default=None, description="The same, by name.")
    result: Json = Field(default=None, description="What the actor returned, if it has succeeded and that is kept.")


class TaskPage(Page[Task]):
    """A part of the list of tasks."""


#: Only shown to who asks for it.
LARGE = frozenset({"args", "kwargs", "result", "error"})
#: The same where one task is shown.
LARGE_OF_ONE = LARGE - {"error"}


class Selection(Query):
    """Which fields of a task are shown."""

    fields: Annotated[list[str], NamesOf(Task)] | None = Field(default=None, description="Only these fields.")
    include: Annotated[list[str], NamesOf(Task, LARGE)] = Field(
        default_factory=list, description="These fields as well, which are not shown by themselves."
    )

    def shown(self, large: frozenset[str]) -> set[str]:
        """Name the fields that are shown."""
        names = set(self.fields) if self.fields else set(Task.model_fields) - large
        return names | set(self.include)


class TaskPath(Query):
    """Which task."""

    task_id: Annotated[str, AfterValidator(lambda text: as_task_id(text) or text)] = Field(description="A UUID.")


class TaskListing(Listing, Selection):
    """Which tasks."""

    state: list[TaskState] = Field(default_factory=list, description="In one of these states.")
    actor: Text | None = None
    queue: Text | None = None
    tag: Text | None = None
    entity: Text | None = None
    tenant: Text | None = None
    correlation_id: Text | None = None
