"""Time zones: their names, and when their clocks jump."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from pipeline.errors import ScheduleInvalid

#: No zone has ever jumped there and back in less.
_STEP = timedelta(hours=12)
_SECOND = timedelta(seconds=1)

#: What else lies in the directory of the zones: this machine's own zone, and clocks that count leap seconds.
_NO_ZONES = ("localtime", "posixrules", "factory", "posix/", "right/")


def zone(name: str) -> ZoneInfo:
    """Find a zone by its name in the IANA database; raise ``ScheduleInvalid`` if there is none."""
    if name.lower().startswith(_NO_ZONES):
        raise _unknown(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # the last for a name such as Europe, which is a directory
        raise _unknown(name) from None


def _unknown(name: str) -> ScheduleInvalid:
    names = {known.lower(): known for known in available_timezones() if not known.lower().startswith(_NO_ZONES)}
    close = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {names[close[0]]}?" if close else "write one such as Europe/Berlin"
    return ScheduleInvalid("timezone", f'there is no time zone "{name}"; {hint}')


@dataclass(frozen=True, slots=True)
class Jump:
    """The clock of a zone is changed: forward over a gap, or back, so that a fold comes twice."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def repeats_until(self) -> datetime:
        """When the clock shows for the first time what it has not shown before the jump."""
        return self.at + max(self.before - self.after, timedelta(0))


def offset(of: ZoneInfo, instant: datetime) -> timedelta:
    """Return by how much the clock is ahead of UTC."""
    return instant.astimezone(of).utcoffset() or timedelta(0)


def jumps(of: ZoneInfo, after: datetime, until: datetime) -> Iterator[Jump]:
    """Find the jumps in (after, until], in their order."""
    for year in range(after.year, until.year + 1):
        for jump in _jumps_of_year(of, year):
            if after < jump.at <= until:
                yield jump


@lru_cache(maxsize=8192)
def _jumps_of_year(of: ZoneInfo, year: int) -> tuple[Jump, ...]:
    """Find the jumps of a year, up to the first instant of the next one. Costs a third of a millisecond."""
    found = []
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    before = offset(of, begin)
    while begin < end:
        step = min(begin + _STEP, end)
        after = offset(of, step)
        if after != before:
            found.append(Jump(_bisect(of, begin, step), before, after))
        begin, before = step, after
    return tuple(found)


def _bisect(of: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Find the first second that has the later offset."""
    later = offset(of, after)
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if offset(of, middle) == later:
            after = middle
        else:
            before = middle
    return after
