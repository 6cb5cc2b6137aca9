"""Schedules that are declared in code, and how the table comes to equal the code.

A module of ``PIPELINE_SCHEDULES`` declares schedules by a sequence of its own::

    SCHEDULES = [
        Schedule("nightly_report", actor=reports.nightly, cron="0 2 * * *", timezone="Europe/Berlin"),
    ]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from pipeline.errors import ConfigurationError, ScheduleInvalid
from pipeline.logger import get_logger
from pipeline.runtime import transact
from pipeline.settings import get_settings
from pipeline.store import schedules
from pipeline.store.audit import By
from pipeline.store.schedules import Put
from pipeline.supervisor.modules import imported
from scheduler.checks import check
from scheduler.definition import Definition

if TYPE_CHECKING:
    from dramatiq import Actor
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.schedules import ScheduleRow
    from scheduler.fields import Fields

#: How often a name is tried that somebody else makes or removes at the same moment.
_TIMES = 5

log = get_logger(__name__)


class Schedule:
    """A schedule that code declares; checked as it is made.

    Raises:
        ScheduleInvalid: Something about it makes no sense; ``field`` and ``reason`` say what and why.
    """

    __slots__ = ("definition", "enabled")

    def __init__(
        self, name: str, *, actor: Actor[..., Any] | str, enabled: bool = True, **fields: Unpack[Fields]
    ) -> None:
        try:
            self.definition = Definition.new(name, actor, fields)
        except ScheduleInvalid as error:
            raise error.of(name) from None
        check(self.definition)
        #: False: it is paused as long as the code says so.
        self.enabled = enabled

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    def __repr__(self) -> str:
        """Show what it is."""
        return f"Schedule({self.name!r}, actor={self.definition.actor!r}, {self.definition.expression!r})"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a sync has done."""

    made: int = 0
    changed: int = 0
    removed: int = 0
    same: int = 0
    #: Names that were made at run time, or by a module that is not ours: left as they are.
    taken: tuple[str, ...] = ()


def declared(modules: Sequence[str] | None = None) -> dict[str, tuple[str, Schedule]]:
    """Import the modules, by default those of ``PIPELINE_SCHEDULES``; what they declare, by name, and where.

    Raises:
        ConfigurationError: A module cannot be imported, what it declares makes no sense, or two declare the same name.
    """
    found: dict[str, tuple[str, Schedule]] = {}
    for module in _modules(modules):
        for schedule in _of_module(module):
            if schedule.name in found:
                raise ConfigurationError(
                    f"The schedule {schedule.name} is declared twice: in {found[schedule.name][0]} and in {module}"
                )
            found[schedule.name] = (module, schedule)
    return found


def sync(who: str = "scheduler", *, modules: Sequence[str] | None = None) -> Counts:
    """Make, change and remove schedules until the table equals what modules declare; one transaction.

    What was made at run time, or by other modules, stays as it is, and so does a pause that an operator made. A new
    name is a new schedule. Any number of daemons may do this at once.

    Args:
        who: Whom the audit trail names.
        modules: By default those of ``PIPELINE_SCHEDULES``.

    Raises:
        ConfigurationError: As for :func:`declared`; nothing has changed.
    """
    wanted = declared(modules)
    counts = transact(partial(_sync, wanted=wanted, modules=frozenset(_modules(modules)), who=who))
    log.info("schedules.synced", made=counts.made, changed=counts.changed, removed=counts.removed, same=counts.same)
    for name in counts.taken:
        log.error("schedule.name_taken", schedule=name, module=wanted[name][0])
    return counts


# --- modules ----------------------------------------------------------------------------------------------------------


def _modules(modules: Sequence[str] | None) -> Sequence[str]:
    return get_settings().schedule_modules if modules is None else modules


def _of_module(name: str) -> Sequence[Schedule]:
    found = getattr(imported(name), "SCHEDULES", ())
    if not isinstance(found, list | tuple) or not all(isinstance(each, Schedule) for each in found):
        raise ConfigurationError(f"SCHEDULES of the module {name} is not a list of scheduler.Schedule: {found!r}")
    return found


# --- the table --------------------------------------------------------------------------------------------------------


def _sync(
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    wanted: dict[str, tuple[str, Schedule]],
    modules: frozenset[str],
    who: str,
) -> Counts:
    rows = {row.name: row for row in schedules.schedules(sql, cursor) if row.declared_by in modules}
    counts = Counts()
    # All in the same order, so that two who declare different things never wait for each other.
    for name in sorted(rows.keys() | wanted.keys()):
        for state in _settle(sql, cursor, name, wanted.get(name), rows.get(name), who):
            counts = _counted(counts, name, state)
    return counts


def _settle(
    sql: Mapping[str, str],
    cursor: Cursor,
    name: str,
    wanted: tuple[str, Schedule] | None,
    row: ScheduleRow | None,
    who: str,
) -> Iterator[str]:
    """Bring one name in order; what was done: removed, made, changed, same, taken."""
    if row is not None and row.declared_by is not None and (wanted is None or wanted[0] != row.declared_by):
        by = By(who, f"not declared in {row.declared_by} any more", "scheduler")
        if schedules.remove(sql, cursor, name, by=by, declared_by=row.declared_by) == "removed":
            log.info("schedule.removed", schedule=name)
            yield "removed"
    if wanted is None:
        return
    state = _put(sql, cursor, *wanted, who)
    if state in {"made", "changed"}:
        log.info("schedule.put", schedule=name, state=state)
    if state != "taken":
        _follow_enabled(sql, cursor, *wanted)
    yield state


def _put(sql: Mapping[str, str], cursor: Cursor, module: str, schedule: Schedule, who: str) -> str:
    """Make it or change it; somebody who makes it at the same moment has been waited for, and is seen the next time."""
    put = Put(schedule.name, schedule.definition.as_columns(), declared_by=module)
    by = By(who, f"declared in {module}", "scheduler")
    for _ in range(_TIMES):
        state = schedules.put(sql, cursor, put, by=by)
        if state != "conflict":
            break
    return "taken" if state in {"declared", "conflict"} else state


def _follow_enabled(sql: Mapping[str, str], cursor: Cursor, module: str, schedule: Schedule) -> None:
    """Pause what the code disables, and resume what nobody but the code has paused."""
    (row,) = schedules.schedules(sql, cursor, name=schedule.name)
    if not schedule.enabled and row.state == "active":
        schedules.pause(sql, cursor, schedule.name, by=By(module, f"enabled=False in {module}", "scheduler"))
    elif schedule.enabled and row.state == "paused" and row.paused_by == module:
        schedules.resume(sql, cursor, schedule.name, by=By(module, f"enabled in {module}", "scheduler"))


def _counted(counts: Counts, name: str, state: str) -> Counts:
    if state == "taken":
        return replace(counts, taken=(*counts.taken, name))
    more: dict[str, Any] = {state: getattr(counts, state) + 1}
    return replace(counts, **more)
