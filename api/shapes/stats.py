"""Figures."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.shapes.lists import Answer, Instant, Listing, Page, Text


class TaskFigures(BaseModel):
    """What waits and runs now, counted up to 10,000 in each lane."""

    queued: int
    scheduled: int
    running: int
    is_exact: bool = Field(description="Or there are more.")
    oldest_due: datetime | None


class WorkerFigures(Answer):
    """The worker processes together."""

    alive: int
    draining: int
    stopped: int = Field(description="Within the last hour.")
    dead: int = Field(description="The same.")
    threads: int = Field(description="Of those that are alive.")
    running: int = Field(description="Tasks that have begun in them.")


class RunFigures(Answer):
    """How runs ended within the last hour."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    cancelled: int = 0
    skipped: int = 0
    interrupted: int = 0
    lost: int = 0
    mean_wait_seconds: float | None = None
    mean_run_seconds: float | None = None


class Summary(BaseModel):
    """All at a glance."""

    tasks: TaskFigures
    workers: WorkerFigures
    last_hour: RunFigures


class Throughput(RunFigures):
    """How runs ended within a span of time."""

    span: datetime = Field(description="When it begins.")
    queue: str | None = Field(description="null: all are counted together.")
    actor: str | None = Field(description="The same.")


class ThroughputPage(Page[Throughput]):
    """A part of the spans, the oldest first. Spans in which nothing ended are left out."""


class ThroughputListing(Listing):
    """Which spans, and whose runs."""

    span: Literal["minute", "10_minutes", "hour", "day"] = Field(default="minute", description="How long a span is.")
    by: list[Literal["queue", "actor"]] = Field(default_factory=list, description="What is counted apart.")
    since: Instant | None = Field(default=None, description="From then on; an hour ago.")
    until: Instant | None = Field(default=None, description="Before then.")
    queue: Text | None = None
    actor: Text | None = None

    @property
    def seconds(self) -> int:
        """How long a span is."""
        return {"minute": 60, "10_minutes": 600, "hour": 3600, "day": 86_400}[self.span]


class Failures(Answer):
    """What has failed lately with an error: of the 1,000 newest tasks of which a run failed for good."""

    queue: str
    actor: str
    error_type: str
    failures: int
    first_seen: datetime
    last_seen: datetime
    error_message: str | None = Field(description="Of the last of them.")
    last_task_id: str


class FailuresPage(Page[Failures]):
    """A part of what has failed, by queue, actor and error."""


class FailuresListing(Listing):
    """Whose failures."""

    queue: Text | None = None
    actor: Text | None = None
