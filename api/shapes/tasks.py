"""Tasks."""

from __future__ import annotations

import json
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator

from api.shapes.lists import DIGITS, Answer, Id, Instant, Listing, NamesOf, Page, Query, Selectable, Text, leading_to
from pipeline.states import Outcome, TaskState
from pipeline.store.search import Asked
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


class Count(BaseModel):
    """How many tasks match."""

    value: int
    is_exact: bool = Field(description="Or there are more: tasks are counted up to 1,000, or as far as there is time.")


class TaskPage(Page[Task]):
    """A part of the list of tasks."""

    model_config = leading_to("task_id", "show_task", "list_attempts", "show_logs", "show_timeline")

    searched_to: datetime | None = Field(
        description="Set if there was no time to look further: what matches and was enqueued since then is told. "
        "`next_cursor` goes on from there, and there may be less in a part than `limit`, or nothing."
    )
    count: Count | None = Field(default=None, description="If it was asked for.")


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
    parent: UUID | None = Field(default=None, description="Enqueued by this task.")
    worker: Id | None = Field(default=None, description="In the hands of this worker now, or when they ended.")
    error_type: Text | None = Field(default=None, description="Whose last error is of this class.")
    text: Text | None = Field(
        default=None,
        description="With this in the actor's name, note, entity, correlation id, tags or error, in any case.",
    )
    created_from: Instant | None = Field(default=None, description="Enqueued then or later.")
    created_to: Instant | None = Field(default=None, description="Enqueued before then.")
    finished_from: Instant | None = Field(default=None, description="Ended then or later.")
    finished_to: Instant | None = Field(default=None, description="Ended before then.")
    count: Literal["none", "capped", "exact"] = Field(
        default="none", description="Count what matches: up to 1,000, or all, which may take too long (504)."
    )

    @property
    def asked(self) -> Asked:
        """Say it in the store's words."""
        return Asked(
            states=self.state or None,
            parent=None if self.parent is None else str(self.parent),
            worker_id=self.worker,
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
        )


_AS_THEY_ARE = sorted({each.name for each in dataclass_fields(Asked)} - {"states", "parent", "worker_id"})


class Attempt(Selectable):
    """How a run of a task ended."""

    run: int
    attempt: int = Field(description="How many attempts had ended after it.")
    outcome: Literal["succeeded", "retry", "failed", "cancelled", "skipped", "interrupted", "lost"]
    worker_id: int | None
    host: str | None
    pid: int | None
    started_at: datetime | None
    finished_at: datetime
    next_eta: datetime | None = Field(description="When the next run is due, if there is one.")
    wait_seconds: float | None = Field(description="How long it was due before it began.")
    run_seconds: float | None
    error_type: str | None
    error_message: str | None
    reason: str | None
    traceback: str | None = None

    @field_validator("outcome", mode="before")
    @classmethod
    def _in_words(cls, outcome: Any) -> Any:
        return outcome.name.lower() if isinstance(outcome, Outcome) else outcome


class AttemptPage(Page[Attempt]):
    """A part of the list of attempts, in their order."""


class AttemptListing(Listing):
    """Which attempts."""

    include: list[Literal["traceback"]] = Field(default_factory=list, description="What is not shown by itself.")


class Line(Answer):
    """A line that a task logged."""

    run: int
    attempt: int
    line: int = Field(description="From 1, in the order of logging within the run.")
    at: datetime
    level: Literal["debug", "info", "warning", "error", "critical"]
    logger: str
    message: str


class LinePage(Page[Line]):
    """A part of what a task logged."""

    tail_cursor: str | None = Field(description="Leads to what it logs later; null as long as it has logged nothing.")


class LineListing(Listing):
    """Which lines."""

    run: Annotated[int, Field(ge=1, le=2**31 - 1), DIGITS] | None = Field(default=None, description="Only of this run.")
    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="debug", description="Only of this level and above."
    )


class Event(Answer):
    """Something that has happened to a task."""

    at: datetime
    event: str
    run: int | None
    worker_id: int | None
    who: str | None = Field(description="The operator, if it was one.")
    detail: str | None


class EventPage(Page[Event]):
    """A part of what has happened to a task."""
