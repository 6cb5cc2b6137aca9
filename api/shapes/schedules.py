"""Schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from api.shapes.commands import Body, MessageOptions, Moment, Priority, Reason
from api.shapes.lists import DIGITS, Answer, Listing, Name, Page, Query, Text, leading_to

_DAY_SECONDS = 86_400
#: Of a day's seconds, but for those that may be none.
Grace = Annotated[int, Field(ge=1, le=_DAY_SECONDS)]
Jitter = Annotated[int, Field(ge=0, le=_DAY_SECONDS)]
ScheduleName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9._-]{0,99}$")]
Count = Annotated[int, Field(ge=1, le=100)]


class Schedule(Answer):
    """A schedule: when it is due, what it sends, and what it has done."""

    name: str
    state: Literal["active", "paused"]
    version: int = Field(description="Counts its changes; stands in its ETag.")
    next_due_at: datetime | None = Field(description="Not dealt with yet; null if it is paused or over.")
    kind: Literal["cron", "interval", "calendar", "once"]
    expression: str = Field(description="What was given as `cron`, `every`, `calendar` or `at`.")
    timezone: str
    gap: str = Field(description="Of a local time that does not exist: the `next` instant, or none (`skip`).")
    fold: str = Field(description="Of a local time that comes twice: the `first`, or `both`.")
    anchor_at: datetime
    starts_at: datetime | None
    ends_at: datetime | None
    actor: str
    queue: str | None = Field(description="null: the actor's.")
    priority: int | None = Field(description="null: the actor's.")
    args: list[Any] | None = Field(description="null for who sees no payloads.")
    kwargs: dict[str, Any] | None = Field(description="The same.")
    options: dict[str, Any] | None = Field(description="The same.")
    tags: list[str]
    description: str
    missed: Literal["skip", "once", "all"] = Field(description="What is done about instants that nobody fired in time.")
    max_age_seconds: int | None
    grace_seconds: int
    overlap: Literal["allow", "skip", "queue", "cancel"] = Field(description="While an earlier task has not ended.")
    jitter_seconds: int
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    last_due_at: datetime | None
    last_fired_at: datetime | None
    last_task_id: str | None
    last_state: str | None = Field(description="That of its last task; `gone` if that was deleted with its week.")
    declared_by: str | None = Field(description="The module that declares it; null: it was made at run time.")
    created_at: datetime
    updated_at: datetime
    updated_by: str


class SchedulePage(Page[Schedule]):
    """A part of the list of schedules, by their names."""

    model_config = leading_to("name", "show_schedule", "list_firings")


class SchedulePath(Query):
    """Which schedule."""

    name: Name


class Removal(Query):
    """How a schedule is removed."""

    reason: Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")] = Field(
        default="", description="Why; the audit trail keeps it."
    )
    force: bool = Field(
        default=False, description="Also one that is declared in code, such as of a module that is no more."
    )


class Upcoming(Query):
    """Which instants."""

    n: Annotated[int, Field(ge=1, le=100), DIGITS] = Field(default=10, description="How many.")


class Instant(Answer):
    """A due instant, as people in its zone read it."""

    due_at: datetime
    local: datetime
    mark: Literal["gap", "fold first", "fold second"] | None = Field(
        description="What the clock of the zone does then: it jumps over the time, or shows it twice."
    )


class Preview(BaseModel):
    """The next due instants, or as many as there are."""

    items: list[Instant]


class Firing(Answer):
    """A due instant that was dealt with, or a run by hand."""

    due_at: datetime
    fired_at: datetime
    outcome: Literal["fired", "left out", "missed"] = Field(description="Left out: an earlier task had not ended.")
    instants: int = Field(description="How many it stands for, if they were missed.")
    is_manual: bool
    fired_by: str
    task_id: str | None
    state: str | None = Field(description="That of its task; `gone` if that was deleted with its week.")


class FiringPage(Page[Firing]):
    """A part of what a schedule has done, the newest first."""


class FiringListing(Listing):
    """Which firings."""


class Timing(Body):
    """When a schedule is due. One of `cron`, `every`, `calendar` and `at` says it."""

    cron: Text | None = Field(default=None, description="`0 2 * * *`: minute, hour, day, month, day of the week.")
    every: Text | None = Field(default=None, description="`90s`, `15m`, `2h`, `1d` of elapsed time since `anchor_at`.")
    calendar: Text | None = Field(default=None, description="`1 month 09:30`, `2 weeks`: days since `anchor_at`.")
    at: Text | None = Field(default=None, description="Once. Without an offset it is a time in `timezone`.")
    timezone: Text | None = Field(default=None, description="UTC by default.")
    gap: Literal["next", "skip"] | None = Field(
        default=None, description="Of a local time that does not exist: the next instant (default), or none."
    )
    fold: Literal["first", "both"] | None = Field(
        default=None,
        description="Of a local time that comes twice; by default both for what repeats within a day, else the first.",
    )
    anchor_at: Moment | None = Field(default=None, description="By default 1 January 2018 in `timezone`.")
    starts_at: Moment | None = Field(default=None, description="Nothing before.")
    ends_at: Moment | None = Field(default=None, description="Nothing after.")

    @property
    def fields(self) -> dict[str, Any]:
        """What was given, in the words of the scheduler. Of null means something where it takes something away."""
        found = {name: value for name, value in self.given.items() if name not in _OTHERS}
        options = found.get("options")
        if options is not None:
            found["options"] = options.given
        for name in _SPANS & found.keys():
            seconds = found.pop(f"{name}")
            found[name.removesuffix("_seconds")] = None if seconds is None else timedelta(seconds=seconds)
        return {name: value for name, value in found.items() if value is not None or name in _NULLABLE}


_OTHERS = frozenset({"name", "reason", "paused", "n", "after"})
_SPANS = frozenset({"max_age_seconds", "grace_seconds", "jitter_seconds"})
_NULLABLE = frozenset({"starts_at", "ends_at", "queue", "priority", "max_age"})


class PreviewOf(Timing):
    """A schedule that is not there yet."""

    n: Count = Field(default=10, description="How many instants.")
    after: Moment | None = Field(default=None, description="From when on; by default now.")


class ChangeSchedule(Timing, Reason):
    """What of a schedule is changed; what is not given, or null without a meaning, stays as it is."""

    actor: Text | None = None
    queue: Text | None = Field(default=None, description="null: the actor's.")
    priority: Priority | None = Field(default=None, description="null: the actor's.")
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    options: MessageOptions | None = None
    tags: list[Text] | None = None
    description: Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")] | None = None
    missed: Literal["skip", "once", "all"] | None = Field(
        default=None, description="Of instants that nobody fired in time: none, the last one (default), or all."
    )
    max_age_seconds: Annotated[int, Field(gt=0, lt=2**31)] | None = Field(
        default=None, description="With `missed=all`: none that is older."
    )
    grace_seconds: Grace | None = Field(default=None, description="What is fired later was missed; 15 by default.")
    overlap: Literal["allow", "skip", "queue", "cancel"] | None = Field(
        default=None,
        description="While an earlier task has not ended: a second one beside it (default), none, one behind it, or "
        "one in its place.",
    )
    jitter_seconds: Jitter | None = Field(default=None, description="Each task may begin up to so much later.")


class NewSchedule(ChangeSchedule):
    """A schedule that is made at run time."""

    name: ScheduleName
    actor: Text = Field(description="One of this program.")
    paused: bool = Field(default=False, description="Make it paused.")
