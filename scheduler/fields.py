"""The fields of a schedule as people write them, and the columns that they become."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pipeline.errors import ScheduleInvalid
from scheduler.intervals import interval
from scheduler.timing import Fold, Gap, Kind

if TYPE_CHECKING:
    from dramatiq import Actor


class Fields(TypedDict, total=False):
    """What a schedule may be given besides its name and its actor.

    Exactly one of ``cron``, ``every``, ``calendar`` and ``at`` says when it is due. Spans are timedeltas, or texts such
    as ``90s``, ``15m``, ``2h``, ``1d``.
    """

    #: ``"0 2 * * *"``: minute, hour, day of month, month, day of week. ``L`` is the last day of a month, ``LW`` the
    #: last that is a business day.
    cron: str
    #: Elapsed time since ``anchor_at``.
    every: str | timedelta
    #: ``"1 month 09:30"``, ``"2 weeks"``: days of the calendar since ``anchor_at``.
    calendar: str
    #: Once. Without an offset it is a time in ``timezone``.
    at: str | datetime
    #: UTC by default.
    timezone: str
    #: A local time that does not exist: the next instant that does (default), or none.
    gap: Literal["next", "skip"]
    #: A local time that comes twice. By default both for what repeats within a day, else the first.
    fold: Literal["first", "both"]
    #: By default midnight of Monday, 1 January 2018, in ``timezone``.
    anchor_at: datetime
    #: Nothing before, nothing after.
    starts_at: datetime | None
    ends_at: datetime | None

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: The actor's by default, as is the priority.
    queue: str | None
    priority: int | None
    tags: Collection[str]
    #: Further options of the message.
    options: Mapping[str, Any]
    description: str

    #: Instants that nobody fired in time: none of them, the last one (default), or all up to ``max_age``.
    missed: Literal["skip", "once", "all"]
    max_age: str | timedelta | None
    #: An instant that is fired later than this was missed; 15 s by default.
    grace: str | timedelta
    #: While an earlier task has not ended: a second one beside it (default), none, one behind it, or one in its place.
    overlap: Literal["allow", "skip", "queue", "cancel"]
    #: Each task may begin up to so much later.
    jitter: str | timedelta


class Changes(Fields, total=False):
    """What of a schedule may be changed; only what is given is."""

    actor: Actor[..., Any] | str


#: Those that say when a schedule is due.
TIMINGS = {"cron": Kind.CRON, "every": Kind.INTERVAL, "calendar": Kind.CALENDAR, "at": Kind.ONCE}


def columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Translate fields into columns of the table, checking that each is of the kind that it should be.

    Raises:
        ScheduleInvalid: One is not, or there is no such field, or more than one says when it is due.
    """
    timings = [name for name in TIMINGS if name in fields]
    if len(timings) > 1:
        raise ScheduleInvalid(timings[1], f"it is due by one of {', '.join(TIMINGS)}, and {timings[0]} is given, too")
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if name in TIMINGS:
            found |= {"kind": TIMINGS[name], "expression": _EXPRESSIONS[name](name, value)}
        elif name in _COLUMNS:
            column, read = _COLUMNS[name]
            found[column] = read(name, value)
        else:
            raise ScheduleInvalid(name, f"there is no such field{_hint(name)}")
    return found


def actor_name(actor: Any) -> str:
    """Return the name of an actor, which may be given by it."""
    return text("actor", getattr(actor, "actor_name", actor))


def text(name: str, value: Any) -> str:
    """Read a text, without spaces around it."""
    if not isinstance(value, str):
        raise ScheduleInvalid(name, f"{value!r} is not a text")
    return value.strip()


def as_text(span: timedelta) -> str:
    """Write a span in the largest unit that it is a multiple of."""
    seconds = round(span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _hint(name: str) -> str:
    known = [*TIMINGS, *_COLUMNS]
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"


# --- one reader for each kind of value --------------------------------------------------------------------------------


def _text_or_none(name: str, value: Any) -> str | None:
    return None if value is None else text(name, value)


def _number_or_none(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ScheduleInvalid(name, f"{value!r} is not a whole number")
    return value


def _instant(name: str, value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise ScheduleInvalid(name, f"{value!r} is not a datetime")
    return value


def _instant_or_none(name: str, value: Any) -> datetime | None:
    return None if value is None else _instant(name, value)


def _seconds(name: str, value: Any) -> int:
    if isinstance(value, str):
        try:
            value = timedelta(0) if value in {"0", "0s"} else interval(value)
        except ScheduleInvalid as error:
            raise ScheduleInvalid(name, error.reason) from None
    if not isinstance(value, timedelta):
        raise ScheduleInvalid(name, f"{value!r} is neither a timedelta nor a text such as 90s, 15m, 2h or 1d")
    if value < timedelta(0) or value.microseconds:
        raise ScheduleInvalid(name, f"{value} is not a number of whole seconds")
    return round(value.total_seconds())


def _seconds_or_none(name: str, value: Any) -> int | None:
    return None if value is None else _seconds(name, value)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ScheduleInvalid(name, f"{value!r} is not a list")
    return list(value)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ScheduleInvalid(name, f"{value!r} is not a mapping of names to values")
    return dict(value)


def _tags(name: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(tag, str) for tag in value):
        raise ScheduleInvalid(name, f"{value!r} is not a list of texts")
    return sorted(set(value))


def _span(name: str, value: Any) -> str:
    return value.strip() if isinstance(value, str) else as_text(timedelta(seconds=_seconds(name, value)))


def _moment(name: str, value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        raise ScheduleInvalid(name, f"{value!r} is a day and has no time")
    return value.isoformat() if isinstance(value, datetime) else text(name, value)


def _one_of(values: type[Gap | Fold]) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        if value not in list(values):
            raise ScheduleInvalid(name, f"{value!r} is none of {', '.join(values)}")
        return values(value)

    return read


_EXPRESSIONS: dict[str, Callable[[str, Any], str]] = {"cron": text, "every": _span, "calendar": text, "at": _moment}

_COLUMNS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "timezone": ("timezone", text),
    "gap": ("gap", _one_of(Gap)),
    "fold": ("fold", _one_of(Fold)),
    "anchor_at": ("anchor_at", _instant),
    "starts_at": ("starts_at", _instant_or_none),
    "ends_at": ("ends_at", _instant_or_none),
    "actor": ("actor", lambda _, value: actor_name(value)),
    "args": ("args", _list),
    "kwargs": ("kwargs", _mapping),
    "queue": ("queue", _text_or_none),
    "priority": ("priority", _number_or_none),
    "tags": ("tags", _tags),
    "options": ("options", _mapping),
    "description": ("description", text),
    "missed": ("missed", text),
    "max_age": ("max_age_seconds", _seconds_or_none),
    "grace": ("grace_seconds", _seconds),
    "overlap": ("overlap", text),
    "jitter": ("jitter_seconds", _seconds),
}
