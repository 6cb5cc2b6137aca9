"""When a schedule is due.

All of this is a function of the schedule's row alone: neither the time it is now nor what was asked before matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice

from scheduler import cron, zones
from scheduler.clock import clock_of
from scheduler.intervals import interval
from scheduler.search import count_cron, first_due
from scheduler.timing import YEARS, Fold, Kind, Timing

#: Nothing is due outside of these.
EARLIEST = datetime(YEARS[0], 1, 1, tzinfo=UTC)
LATEST = datetime(YEARS[-1], 12, 31, tzinfo=UTC)

_SECOND = timedelta(seconds=1)
#: How far back the last instant is looked for, further and further: so there are some dozens to go through at most.
_BACK = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))


def following(timing: Timing, after: datetime) -> datetime | None:
    """Return the first due instant after ``after``, in UTC and whole seconds; ``None`` if there is none."""
    start, end = _start(timing, after), timing.ends_at or LATEST
    found = first_due(timing, clock_of(timing), start) if start <= end else None
    return found if found is not None and found <= end else None


def between(timing: Timing, after: datetime, until: datetime) -> Iterator[datetime]:
    """Compute the due instants after ``after``, up to and with ``until``, one after the other."""
    while (found := following(timing, after)) is not None and found <= until:
        yield found
        after = found


def latest(timing: Timing, after: datetime, until: datetime) -> tuple[datetime | None, int]:
    """Return the last of the due instants after ``after``, up to and with ``until``, and how many there are."""
    until = _floor(min(until, timing.ends_at or LATEST, LATEST, key=datetime.timestamp))
    first = following(timing, after)
    if first is None or first > until:
        return None, 0
    if timing.kind == Kind.INTERVAL:
        every = interval(timing.expression)
        more = (until - first) // every
        return first + more * every, more + 1
    last = _last(timing, first, until)
    if timing.kind == Kind.CRON:
        return last, count_cron(timing, clock_of(timing), first, last)
    return last, 1 + sum(1 for _ in between(timing, first, last))


def default_fold(kind: Kind, expression: str) -> Fold:
    """Return what is sensible for a text: what comes again and again comes in the repeated hour, too.

    Otherwise ``*/15 * * * *`` would have a hole of an hour, or ``0 2 * * *`` run twice in that night.
    """
    return Fold.BOTH if kind == Kind.CRON and cron.repeats(expression) else Fold.FIRST


def _last(timing: Timing, first: datetime, until: datetime) -> datetime:
    for back in _BACK:
        found = list(between(timing, max(first, until - back), until))
        if found:
            return found[-1]
    return max(between(timing, first, until), default=first)


def _start(timing: Timing, after: datetime) -> datetime:
    """Return the first second that can be due."""
    begins = [EARLIEST, _ceil(timing.starts_at or EARLIEST)]
    if timing.kind in {Kind.INTERVAL, Kind.CALENDAR}:
        begins.append(_floor(timing.anchor_at))
    start = max(begins)
    return start if after < start else _floor(min(after, LATEST)) + _SECOND


def _floor(instant: datetime) -> datetime:
    """Cut off a fraction; in UTC, since Python compares two moments of the same zone by what its clock shows."""
    return instant.astimezone(UTC).replace(microsecond=0)


def _ceil(instant: datetime) -> datetime:
    whole = _floor(min(instant, LATEST))
    return whole if whole >= instant else whole + _SECOND


# --- what is shown ----------------------------------------------------------------------------------------------------


class Mark(StrEnum):
    """What the clock of the zone does at an instant."""

    GAP = "gap"
    FOLD_FIRST = "fold first"
    FOLD_SECOND = "fold second"


@dataclass(frozen=True, slots=True)
class Preview:
    """A due instant, as people in its zone read it.

    ``mark`` is ``gap`` if the schedule's own local time does not exist on that day, so that the next instant was taken;
    ``fold first`` or ``fold second`` if the local time comes twice.
    """

    due_at: datetime
    local: datetime
    utc_offset: timedelta
    mark: Mark | None


def preview(timing: Timing, after: datetime, n: int) -> list[Preview]:
    """Return the next ``n`` due instants after ``after``, or as many as there are."""
    return [_preview(timing, due_at) for due_at in islice(between(timing, after, LATEST), n)]


def _preview(timing: Timing, due_at: datetime) -> Preview:
    local = due_at.astimezone(zones.zone(timing.timezone))
    return Preview(due_at, local, local.utcoffset() or timedelta(0), _mark(timing, local))


def _mark(timing: Timing, local: datetime) -> Mark | None:
    if local.fold:
        return Mark.FOLD_SECOND
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        return Mark.FOLD_FIRST
    clock = clock_of(timing)
    reading = local.astimezone(UTC) + zones.offset(clock.zone, local)
    return None if clock.first(reading) == reading else Mark.GAP
