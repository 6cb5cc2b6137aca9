"""Queues and gates."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.shapes.lists import Answer, Listing, Name, Page, Query, leading_to


class Queue(Answer):
    """A queue: its settings, and what waits and runs in it."""

    queue: str
    is_paused: bool
    paused_by: str | None
    pause_reason: str | None
    resume_at: datetime | None = Field(description="When the pause ends by itself.")
    max_running: int | None = Field(description="How many of its tasks may run at a time; null: any number.")
    weight: float = Field(description="How much more often it comes first than others of its priority.")
    queued: int = Field(description="Tasks that are due, at gates as well, and those that a worker has not begun.")
    scheduled: int = Field(description="Tasks that are not due yet.")
    running: int
    reserved: int = Field(description="How many of the queued ones a worker has taken.")
    parked: int = Field(description="How many of the queued ones wait at a gate.")
    oldest_due: datetime | None = Field(description="Since when the task at the head has been due.")
    is_exact: bool = Field(description="Or there are more: they are counted up to 10,000 in each lane.")


#: What is set of a queue and of a gate; the rest happens.
QUEUE_SETTINGS = ("is_paused", "paused_by", "pause_reason", "resume_at", "max_running", "weight")
GATE_SETTINGS = ("is_paused", "paused_by", "pause_reason", "resume_at", "max_running")


class Flushed(BaseModel):
    """What became of what waited in a queue."""

    queue: str
    cancelled: int = Field(description="How many tasks waited, and are cancelled.")


class QueuePage(Page[Queue]):
    """A part of the list of queues, by their names."""

    model_config = leading_to("queue", "show_queue")


class Counting(Query):
    """How what waits is counted."""

    count: Literal["capped", "exact"] = Field(
        default="capped",
        description="Up to 10,000 in each lane or at each gate, or all, which may take too long (504).",
    )

    @property
    def most(self) -> int | None:
        """Up to where."""
        return None if self.count == "exact" else 10_000


class QueueListing(Listing, Counting):
    """Which queues."""


class QueuePath(Query):
    """Which queue."""

    queue: Name


class Gate(Answer):
    """Something that holds tasks back besides their turn."""

    gate: str = Field(description="As `actor:NAME`, `key:NAME`, `rate:NAME`, `order:NAME` or `tenant:NAME`.")
    is_paused: bool
    paused_by: str | None
    pause_reason: str | None
    resume_at: datetime | None
    max_running: int | None
    running: int = Field(description="Tasks that have passed it and not ended.")
    waiting: int
    is_exact: bool = Field(description="Or there are more: they are counted up to 10,000.")


class GatePage(Page[Gate]):
    """A part of the list of gates, by their names."""

    model_config = leading_to("gate", "show_gate")


class GateListing(Listing, Counting):
    """Which gates."""


class GatePath(Query):
    """Which gate."""

    gate: Name
