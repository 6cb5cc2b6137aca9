"""Workers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from api.shapes.lists import Answer, Id, Listing, Page, Query, Text, leading_to


class RunningTask(Answer):
    """A task that runs in a worker."""

    task_id: str
    actor: str
    thread: int | None
    started_at: datetime
    seconds: float


class Worker(Answer):
    """A worker process."""

    worker_id: int = Field(description="New at each start.")
    state: Literal["alive", "stopped", "dead"]
    host: str
    pid: int
    threads: int
    queues: list[str]
    started_at: datetime
    beat_at: datetime = Field(description="When it was last heard of.")
    ended_at: datetime | None
    running: int = Field(description="Tasks that had begun at its last beat.")
    claimed: int = Field(description="Tasks it has taken, begun or not.")
    crashes: int = Field(description="Processes in its place that had died young before it, one after the other.")
    drain_at: datetime | None = Field(description="Since when it shall claim nothing more, and end.")
    drained_by: str | None
    drain_reason: str | None
    tasks: list[RunningTask] = Field(description="What runs in it, the oldest first.")


class WorkerPage(Page[Worker]):
    """A part of the list of workers, the newest first."""

    model_config = leading_to("worker_id", "show_worker")


class WorkerListing(Listing):
    """Which workers."""

    state: list[Literal["alive", "stopped", "dead"]] = Field(
        default_factory=list, description="In one of these states."
    )
    host: Text | None = None


class WorkerPath(Query):
    """Which worker."""

    worker_id: Annotated[Id, Field(description="Its number.")]
