"""A schedule as it is written into the table: all of it, defaults included, and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from pipeline.errors import ScheduleInvalid
from scheduler import zones
from scheduler.due import timing_of
from scheduler.fields import TIMINGS, actor_name, columns, text
from scheduler.instants import default_fold
from scheduler.timing import Fold, Gap, Kind, Timing

if TYPE_CHECKING:
    from pipeline.store.schedules import ScheduleRow

P = ParamSpec("P")
T = TypeVar("T")

#: A Monday that begins a month and a year: weeks, months and years that are counted from it begin as people expect.
_ANCHOR = datetime(2018, 1, 1)  # noqa: DTZ001 - what the clock of each zone shows


@dataclass(frozen=True, slots=True)
class Definition:
    """What people decide about a schedule: columns of the table, by their names."""

    name: str
    actor: str
    kind: Kind
    expression: str
    fold: Fold
    anchor_at: datetime
    timezone: str = "UTC"
    gap: Gap = Gap.NEXT
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue: str | None = None
    priority: int | None = None
    tags: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    missed: str = "once"
    max_age_seconds: int | None = None
    grace_seconds: int = 15
    overlap: str = "allow"
    jitter_seconds: int = 0

    @classmethod
    def new(cls, name: str, actor: Any, given: Mapping[str, Any]) -> Self:
        """Make one of its fields; unchecked but for what is needed to find its defaults.

        Raises:
            ScheduleInvalid: A field cannot be read, or none says when it is due.
        """
        if not given.keys() & TIMINGS.keys():
            raise ScheduleInvalid("expression", f"say when it is due by one of {', '.join(TIMINGS)}")
        found = columns(given)
        zone = found.get("timezone", "UTC")
        found.setdefault("fold", default_fold(found["kind"], found["expression"]))
        found.setdefault("anchor_at", default_anchor(zone))
        return cls(name=text("name", name), actor=actor_name(actor), **found)

    @classmethod
    def of(cls, row: ScheduleRow) -> Self:
        """Take what a row says."""
        values = {each.name: getattr(row, each.name) for each in fields(cls)}
        return cls(**values | {"kind": Kind(row.kind), "gap": Gap(row.gap), "fold": Fold(row.fold)})

    def changed(self, given: Mapping[str, Any]) -> Self:
        """Change fields; what was left to a default before follows its default.

        Raises:
            ScheduleInvalid: A field cannot be read.
        """
        new = replace(self, **columns(given))
        if "fold" not in given and self.fold == _if_valid(default_fold, self.kind, self.expression):
            new = replace(new, fold=default_fold(new.kind, new.expression))
        if "anchor_at" not in given and self.anchor_at == _if_valid(default_anchor, self.timezone):
            new = replace(new, anchor_at=default_anchor(new.timezone))
        return new

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return timing_of(self)

    def as_columns(self, only_changes_from: Definition | None = None) -> dict[str, Any]:
        """Write the columns as JSON has them: all, or those that differ from what they were."""
        names = [each.name for each in fields(self) if each.name != "name"]
        values = {name: getattr(self, name) for name in names}
        if only_changes_from is not None:
            values = {name: value for name, value in values.items() if value != getattr(only_changes_from, name)}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def default_anchor(timezone: str) -> datetime:
    """Return from when intervals are counted unless somebody says otherwise; the same at each start.

    Raises:
        ScheduleInvalid: There is no such zone.
    """
    return _ANCHOR.replace(tzinfo=zones.zone(timezone)).astimezone(UTC)


def _if_valid(default: Callable[P, T], *of: P.args, **also: P.kwargs) -> T | None:
    """Return a default; None of what cannot be read, as somebody may have written it by SQL."""
    try:
        return default(*of, **also)
    except ScheduleInvalid:
        return None
