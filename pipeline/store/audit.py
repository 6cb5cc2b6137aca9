"""Statements about the audit trail, and what every command tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

_SOURCE: ContextVar[str] = ContextVar("pipeline_source", default="python")


@contextmanager
def acting_from(source: str) -> Iterator[None]:
    """Let commands inside the block be noted as coming from there: ``cli``, ``api``; ``python`` elsewhere."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


@dataclass(frozen=True, slots=True)
class By:
    """Who commands something, why, and from where: parameters of every command's statement."""

    who: str
    reason: str = ""
    source: str = field(default_factory=_SOURCE.get)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the statement gets."""
        return {"who": self.who, "reason": self.reason, "source": self.source}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the view ``audit_log``."""

    at: datetime
    task_id: str | None
    queue: str | None
    gate: str | None
    worker_id: int | None
    schedule: str | None
    action: str
    who: str
    #: ``cli``, ``api``, ``python`` or ``sql``.
    source: str
    reason: str
    #: What was changed, before and after.
    old_value: dict[str, Any] | None
    new_value: dict[str, Any] | None
    audit_id: int


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which commands are meant: those that match all of what is given."""

    task_id: str | None = None
    who: str | None = None
    action: str | None = None
    source: str | None = None
    queue: str | None = None
    gate: str | None = None
    worker_id: int | None = None
    schedule: str | None = None
    #: From then on, and before then.
    since: datetime | None = None
    until: datetime | None = None


def newest(
    sql: Mapping[str, str],
    cursor: Cursor,
    filters: AuditFilters | None = None,
    *,
    before: int | None = None,
    limit: int = 50,
) -> list[AuditRow]:
    """List commands, newest first: those that match, and were given before the one of that number."""
    cursor.execute(sql["newest_audit"], asdict(filters or AuditFilters()) | {"before": before, "limit": limit})
    return [AuditRow(*row) for row in cursor.fetchall()]
