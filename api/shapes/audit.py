"""What operators have done."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.shapes.lists import Answer, Id, Instant, Listing, Page, Text
from pipeline.store.audit import AuditFilters


class Command(Answer):
    """Something that an operator has done."""

    audit_id: int
    at: datetime
    action: str
    who: str
    source: str = Field(description="From where: `cli`, `api`, `python` or `sql`.")
    reason: str
    task_id: str | None
    queue: str | None
    gate: str | None
    worker_id: int | None
    schedule: str | None
    old_value: Any = Field(description="What was changed, before; null for who sees no payloads.")
    new_value: Any = Field(description="The same, after.")


class AuditPage(Page[Command]):
    """A part of the audit trail, the newest first."""


class AuditListing(Listing):
    """Which commands: those that match all of what is given."""

    task: UUID | None = Field(default=None, description="Done to this task.")
    who: Text | None = None
    action: Text | None = None
    source: Text | None = None
    queue: Text | None = None
    gate: Text | None = None
    worker: Id | None = Field(default=None, description="Done to this worker.")
    schedule: Text | None = None
    since: Instant | None = Field(default=None, description="Then or later.")
    until: Instant | None = Field(default=None, description="Before then.")

    @property
    def filters(self) -> AuditFilters:
        """Say it in the store's words."""
        return AuditFilters(
            task_id=None if self.task is None else str(self.task),
            who=self.who,
            action=self.action,
            source=self.source,
            queue=self.queue,
            gate=self.gate,
            worker_id=self.worker,
            schedule=self.schedule,
            since=self.since,
            until=self.until,
        )
