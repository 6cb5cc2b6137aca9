"""The clock on the wall: when a schedule is due by it, and in which zone it hangs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from pipeline.errors import ScheduleInvalid
from scheduler import zones
from scheduler.cron import cron_trigger
from scheduler.intervals import calendar_trigger, interval_trigger
from scheduler.timing import YEARS, Kind, Timing


@dataclass(frozen=True, slots=True)
class Clock:
    """A trigger of APScheduler that knows no zone, and the zone.

    What the clock shows, a *reading*, is a date and a time that is labelled UTC: in UTC, APScheduler computes by the
    calendar alone. What a reading means in the zone is decided in ``search``, by our own policies.
    """

    trigger: BaseTrigger
    zone: ZoneInfo

    def first(self, reading: datetime) -> datetime | None:
        """Return the first reading at or after this one at which the schedule is due."""
        found: datetime | None = self.trigger.get_next_fire_time(None, reading)
        return found if found is not None and found >= reading else None


def clock_of(timing: Timing) -> Clock:
    """Read the text of a schedule; raise ``ScheduleInvalid`` if that cannot be."""
    anchor = timing.anchor_at.astimezone(UTC).replace(microsecond=0)
    return _clock(Kind(timing.kind), timing.expression, timing.timezone, anchor)


@lru_cache(maxsize=4096)
def _clock(kind: Kind, text: str, timezone: str, anchor: datetime) -> Clock:
    """Make a clock. The anchor is in UTC: two moments that their zone calls alike would be one to the cache."""
    zone, utc = zones.zone(timezone), ZoneInfo("UTC")
    match kind:
        case Kind.CRON:
            return Clock(cron_trigger(text), zone)
        case Kind.INTERVAL:
            return Clock(interval_trigger(text, anchor), utc)  # elapsed time: no clock is asked
        case Kind.CALENDAR:
            return Clock(calendar_trigger(text, anchor + zones.offset(zone, anchor)), zone)
        case Kind.ONCE:
            moment = _moment(text)
            reading = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            return Clock(DateTrigger(reading), utc if moment.tzinfo else zone)


def _moment(text: str) -> datetime:
    """Read a date and a time, with or without an offset; fractions of a second are cut off."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ScheduleInvalid("expression", f'"{text}" is not a date and time such as 2026-12-24T18:00') from None
    if moment.year not in YEARS:
        raise ScheduleInvalid("expression", f'"{text}" does not lie in the years {YEARS[0]} to {YEARS[-1]}')
    return moment.replace(microsecond=0)
