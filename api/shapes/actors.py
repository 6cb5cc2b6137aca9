"""Actors."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.shapes.lists import Answer, Listing, Name, Page, Query, Selectable, Text, leading_to


class Parameter(Answer):
    """What an actor is called with."""

    name: str
    kind: Literal["positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"]
    annotation: str | None = Field(description="Its type, as it is written.")
    is_required: bool
    default: str | None = Field(description="As it is written; `***` if it is masked.")


class ActorStatistics(Answer):
    """How the runs of an actor in a queue ended within some time, how long they waited and how long they took."""

    actor: str
    queue: str
    started: int
    succeeded: int
    failed: int
    retried: int
    cancelled: int
    skipped: int
    interrupted: int
    lost: int
    failure_rate: float | None = Field(description="Of those that succeeded or failed.")
    mean_wait_seconds: float | None
    p50_wait_seconds: float | None
    p95_wait_seconds: float | None
    mean_run_seconds: float | None
    p50_run_seconds: float | None
    p95_run_seconds: float | None


class Actor(Selectable):
    """An actor that workers have announced."""

    actor: str
    queue: str
    priority: int
    seen_at: datetime = Field(description="When it was announced first, or with other settings.")
    description: str | None = Field(description="The beginning of its docstring.")
    parameters: list[Parameter] | None = Field(description="What it is called with; null: nobody can tell.")
    masked: list[str] = Field(description="Names of arguments and fields whose values are shown to nobody.")
    statistics: list[ActorStatistics] | None = Field(
        default=None, description="Its runs within the last hour or day, by queue."
    )


class ActorPage(Page[Actor]):
    """A part of the list of actors, by their names."""

    model_config = leading_to("actor", "show_actor")


class Period(Query):
    """Of which time statistics are."""

    period: Literal["hour", "day"] = Field(default="hour", description="The last hour, or the last day.")


class ActorListing(Listing, Period):
    """Which actors."""

    include: list[Literal["statistics"]] = Field(default_factory=list, description="What is not shown by itself.")


class ActorPath(Query):
    """Which actor."""

    actor: Name


class StatisticsListing(Listing, Period):
    """Whose statistics."""

    actor: Text | None = None
    queue: Text | None = None


class StatisticsPage(Page[ActorStatistics]):
    """A part of the statistics, by actor and queue."""
