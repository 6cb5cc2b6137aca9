"""What bodies say that command something."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.shapes.lists import Query, Text
from pipeline.broker.keys import KEY_BYTES
from pipeline.broker.labels import CORRELATION_BYTES, ENTITY_BYTES, MOST_TAGS, TAG_BYTES
from pipeline.broker.messages import PRIORITIES

_NO_NUL = r"^[^\x00]*$"
_CENTURY_SECONDS = 100 * 365 * 86_400
_DAY_SECONDS = 86_400


def _in_our_times(value: datetime) -> datetime:
    """Refuse what no calendar could show in another zone. In UTC, since PostgreSQL takes no offset above 15:59."""
    if value.year not in _YEARS:
        message = f"lies in the years {_YEARS[0]} to {_YEARS[-1]}"
        raise ValueError(message)
    return value.astimezone(UTC)


_YEARS = range(1900, 9000)

#: An instant, with its zone.
Moment = Annotated[AwareDatetime, AfterValidator(_in_our_times)]
Priority = Annotated[int, Field(ge=PRIORITIES[0], le=PRIORITIES[-1], description="Lower runs first.")]
#: Seconds that something may lie ahead.
Delay = Annotated[float, Field(ge=0, le=_CENTURY_SECONDS, allow_inf_nan=False)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=KEY_BYTES, pattern=_NO_NUL)]
Milliseconds = Annotated[int, Field(gt=0, le=_CENTURY_SECONDS * 1000)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=TAG_BYTES, pattern=_NO_NUL)]
Entity = Annotated[str, StringConstraints(max_length=ENTITY_BYTES, pattern=r"^[^\x00:]+:[^\x00]+$")]
CorrelationId = Annotated[str, StringConstraints(min_length=1, max_length=CORRELATION_BYTES, pattern=_NO_NUL)]
MaxRunning = Annotated[int, Field(gt=0, lt=2**31)]


class Body(BaseModel):
    """A part of a body. Unknown fields are refused, and a number in quotes is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @property
    def given(self) -> dict[str, Any]:
        """The fields that the client has sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Reason(Body):
    """What every command may be told."""

    reason: Annotated[str, StringConstraints(max_length=1000, pattern=_NO_NUL)] = Field(
        default="", description="Why; the audit trail keeps it."
    )


class Pause(Reason):
    """Pause something."""

    resume_after_seconds: Annotated[float, Field(ge=0.001, le=_CENTURY_SECONDS, allow_inf_nan=False)] | None = Field(
        default=None, description="When the pause ends by itself; by default somebody has to resume it."
    )

    @property
    def resume_after(self) -> timedelta | None:
        """The same as a timedelta."""
        return None if self.resume_after_seconds is None else timedelta(seconds=self.resume_after_seconds)


class Cancel(Reason):
    """Cancel something."""

    force: bool = Field(default=False, description="Kill the process of a task that has not ended after the grace.")
    grace_seconds: Annotated[float, Field(ge=0, le=_DAY_SECONDS, allow_inf_nan=False)] = Field(
        default=5, description="See `force`."
    )

    @property
    def force_after_ms(self) -> int | None:
        """How long after it the process is killed; None: never."""
        return round(self.grace_seconds * 1000) if self.force else None


class CancelTask(Cancel):
    """Cancel a task."""

    whole: bool = Field(default=False, description="Cancel the chain and the group that it belongs to, too.")


class Retry(Reason):
    """Let run now what waits for its time or its retry, or has failed, was cancelled or skipped."""

    again: bool = Field(default=False, description="Also what has succeeded.")


class Snooze(Reason):
    """Let what waits do so for a while at least."""

    seconds: Delay = Field(description="How long, from now on. What is due later anyway stays as it is.")

    @property
    def span(self) -> timedelta:
        """The same as a timedelta."""
        return timedelta(seconds=self.seconds)


class Reschedule(Reason):
    """Let what waits be due at another time."""

    eta: Moment = Field(description="When, with a time zone. What is over means now.")


class Reprioritise(Reason):
    """Give what waits another priority."""

    priority: Priority


class Move(Reason):
    """Let what waits do so in another queue."""

    queue: Text = Field(description="Its workers must have the actor.")


class MessageOptions(Body):
    """Options of a message, besides those that have a field of their own. Times are in milliseconds."""

    max_retries: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_backoff: Milliseconds | None = None
    max_backoff: Milliseconds | None = None
    max_age: Milliseconds | None = None
    time_limit: Milliseconds | None = None
    hard_time_limit: Milliseconds | None = None
    store_results: bool | None = None
    result_ttl: Milliseconds | None = None
    unique_key: Key | None = Field(default=None, description="Nobody else's task has it while this waits or runs.")
    on_conflict: Literal["skip", "replace", "error"] | None = Field(
        default=None,
        description="If another task has the key: let that stand for this (`skip`, the default), replace what waits of "
        "it, or answer 409.",
    )
    concurrency_key: Key | None = None
    rate_key: Key | None = None
    ordering_key: Key | None = None
    fairness_key: Key | None = None


class _Sent(Reason):
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    queue: Text | None = Field(default=None, description="By default that of the actor.")
    priority: Priority | None = Field(default=None, description="By default that of the actor.")
    delay_seconds: Delay | None = Field(default=None, description="When it is due; by default at once.")
    tags: Annotated[list[Tag], Field(max_length=MOST_TAGS)] | None = None
    entity: Entity | None = Field(default=None, description="What it is about: `kind:id`.")
    tenant: Key | None = None
    correlation_id: CorrelationId | None = None
    options: MessageOptions = Field(default_factory=MessageOptions)

    @property
    def message_options(self) -> dict[str, Any]:
        """What the message gets as its options: what was given, also null, which means without."""
        labels = {name: value for name, value in self.given.items() if name in _LABELS}
        return self.options.given | labels


_LABELS = frozenset({"tags", "entity", "tenant", "correlation_id"})


class NewTask(_Sent):
    """Enqueue a task."""

    actor: Text
    eta: Moment | None = Field(default=None, description="When it is due, instead of `delay_seconds`.")

    @model_validator(mode="after")
    def _is_due_once(self) -> NewTask:
        if self.eta is not None and self.delay_seconds is not None:
            message = "say when it is due by one of eta and delay_seconds"
            raise ValueError(message)
        return self


class Idempotency(Query):
    """What tells a request that is sent again from another one."""

    key: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")] | None = Field(
        default=None, alias="Idempotency-Key", description="Made up by the client; the same for the same task."
    )


class Clone(_Sent):
    """Enqueue a copy of a task, in whatever state that is; what is not given is as it was."""

    queue: Text | None = Field(default=None, description="By default that of the task.")
    priority: Priority | None = Field(default=None, description="By default that of the task.")


class ChangeQueue(Reason):
    """Change settings of a queue; what is not given stays as it is."""

    max_running: MaxRunning | None = Field(
        default=None, description="How many of its tasks may run at a time; null: any number."
    )
    weight: Annotated[float, Field(ge=0.001, le=1000, allow_inf_nan=False)] = Field(
        default=1, description="How much more often it comes first than others of its priority."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> ChangeQueue:
        if not self.given.keys() & {"max_running", "weight"}:
            message = "give max_running or weight"
            raise ValueError(message)
        return self


class ChangeGate(Reason):
    """Change how many tasks are let through a gate."""

    max_running: MaxRunning | None = Field(
        description="How many tasks may run at a time that have passed it; null: as many as actors are declared with."
    )


class DrainMany(Reason):
    """Let workers end."""

    all: bool = Field(default=False, description="All that are alive.")
    host: Text | None = Field(default=None, description="All of this machine, instead.")

    @model_validator(mode="after")
    def _is_said_which(self) -> DrainMany:
        if self.all == (self.host is not None):
            message = "say which workers by one of all and host"
            raise ValueError(message)
        return self
