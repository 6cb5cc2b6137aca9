"""When a schedule is due, as it was written: the values, and what must hold for them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pipeline.errors import ScheduleInvalid

#: Nothing is due outside of these.
YEARS = range(1970, 9000)

_LONGEST_EXPRESSION = 500


class Kind(StrEnum):
    """How the text of a schedule is to be read."""

    CRON = "cron"
    INTERVAL = "interval"
    CALENDAR = "calendar"
    ONCE = "once"


class Gap(StrEnum):
    """What becomes of a local time that the clock jumps over."""

    NEXT = "next"
    SKIP = "skip"


class Fold(StrEnum):
    """Which of two is meant, when a local time comes twice."""

    FIRST = "first"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Timing:
    """Everything that decides when a schedule is due; nothing else does, not even the time it is now.

    Intervals and calendar intervals are counted from ``anchor_at``. Nothing is due before ``starts_at`` or after
    ``ends_at``, which themselves may be. For ``fold`` there is ``default_fold()``.
    """

    kind: Kind
    expression: str
    timezone: str = "UTC"
    _: KW_ONLY
    gap: Gap = Gap.NEXT
    fold: Fold = Fold.FIRST
    anchor_at: datetime
    starts_at: datetime | None = None
    ends_at: datetime | None = None


def check(timing: Timing) -> None:
    """Raise ``ScheduleInvalid`` if the timing cannot be read, or would never be due."""
    from scheduler import clock  # it reads timings itself

    for field in ("anchor_at", "starts_at", "ends_at"):
        _check_moment(field, getattr(timing, field))
    for field, values in (("kind", Kind), ("gap", Gap), ("fold", Fold)):
        _check_one_of(field, getattr(timing, field), values)
    if len(timing.expression) > _LONGEST_EXPRESSION:
        raise ScheduleInvalid("expression", f"it has more than {_LONGEST_EXPRESSION} characters")
    if timing.starts_at and timing.ends_at and timing.ends_at.timestamp() < timing.starts_at.timestamp():
        raise ScheduleInvalid("ends_at", f"{timing.ends_at} lies before starts_at, {timing.starts_at}")
    clock.clock_of(timing)
    _check_ever_due(timing)


def _check_ever_due(timing: Timing) -> None:
    from scheduler import instants

    since = instants.EARLIEST
    if timing.kind != Kind.ONCE:  # of the others, years in which the zone had no summer time yet prove nothing
        begins = [timing.anchor_at, timing.starts_at or timing.anchor_at]
        since = max(since, min(begins, key=datetime.timestamp)).astimezone(UTC)
    if instants.following(timing, since - timedelta(seconds=1)) is None:
        raise ScheduleInvalid("expression", f'"{timing.expression}" is never due{_why_never(timing)}')


def _check_moment(field: str, value: datetime | None) -> None:
    if value is None:
        return
    if value.utcoffset() is None:
        raise ScheduleInvalid(field, f"{value} has no UTC offset; write it with one, such as {value.isoformat()}+00:00")
    if value.year not in YEARS:
        raise ScheduleInvalid(field, f"{value} does not lie in the years {YEARS[0]} to {YEARS[-1]}")


def _check_one_of(field: str, value: str, values: type[StrEnum]) -> None:
    if value not in list(values):
        raise ScheduleInvalid(field, f'"{value}" is none of {", ".join(values)}')


def _why_never(timing: Timing) -> str:
    """Tell what keeps a text that can be read from being due."""
    if timing.starts_at or timing.ends_at:
        return f" between {timing.starts_at or 'the beginning'} and {timing.ends_at or 'the end'} of the schedule"
    return f" in {timing.timezone}, whose clock jumps over it; gap=next takes the next instant that there is"
