"""What an operator or an application can do to schedules; one transaction each.

Every command takes ``who`` and ``reason``, which the audit trail keeps, and ``target``: a transaction of the caller's
(as :func:`pipeline.enlist` takes it) that it becomes a part of. By default it is a transaction of its own. Daemons
notice within two seconds of its commit; none has to be started again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from pipeline.broker.sender import in_our_words
from pipeline.errors import ScheduleConflict, ScheduleDeclared, ScheduleInvalid, ScheduleOverlaps, ScheduleUnknown
from pipeline.runtime import command
from pipeline.store import schedules
from pipeline.store.audit import By
from pipeline.store.schedules import FiringRow, Put, ScheduleRow
from scheduler.checks import check
from scheduler.definition import Definition
from scheduler.due import timing_of
from scheduler.instants import Preview, following, preview
from scheduler.messages import task_of

if TYPE_CHECKING:
    from dramatiq import Actor
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from scheduler.fields import Changes, Fields

#: How often a run is tried whose schedule is being changed at the same moment.
_TIMES = 5


def add_schedule(
    name: str,
    actor: Actor[..., Any] | str,
    *,
    who: str,
    reason: str = "",
    paused: bool = False,
    target: Any = None,
    **fields: Unpack[Fields],
) -> ScheduleRow:
    """Make a schedule at run time.

    Args:
        name: Letters, digits, ``.``, ``_``, ``-``; what it is called in commands and in its history.
        actor: Which actor of this program it sends messages to.
        who: Whom the audit trail names.
        reason: Why.
        paused: Make it paused.
        target: A transaction of the caller's.
        fields: When it is due, and what it sends: see :class:`scheduler.fields.Fields`.

    Raises:
        ScheduleInvalid: Something about it makes no sense; ``field`` and ``reason`` say what and why.
        ScheduleConflict: There is one of this name.
    """
    definition = _checked(partial(Definition.new, name, actor, fields), name)
    _check_not_over(definition)
    put = Put(name, definition.as_columns(), expected=0, paused=paused)

    def statement(sql: Mapping[str, str], cursor: Cursor) -> ScheduleRow:
        if schedules.put(sql, cursor, put, by=By(who, reason)) != "made":
            raise ScheduleConflict(name, "exists already")
        return _read(sql, cursor, name)

    return command(target, statement)


def edit_schedule(
    name: str,
    *,
    who: str,
    reason: str = "",
    version: int | None = None,
    target: Any = None,
    **changes: Unpack[Changes],
) -> ScheduleRow:
    """Change what is given of a schedule that was made at run time. Of another timing, instants from now on count.

    Args:
        name: Which schedule.
        who: Whom the audit trail names.
        reason: Why.
        version: Only if it still has this version.
        target: A transaction of the caller's.
        changes: Fields, or another actor; None takes a limit away.

    Raises:
        ScheduleUnknown: There is no such schedule.
        ScheduleInvalid: What it would be makes no sense.
        ScheduleDeclared: It is declared in code.
        ScheduleConflict: It has another version, or somebody changes it at the same moment.
    """

    def statement(sql: Mapping[str, str], cursor: Cursor) -> ScheduleRow:
        row = _read(sql, cursor, name)
        if row.declared_by is not None:
            raise ScheduleDeclared(name, row.declared_by)
        if version is not None and row.version != version:
            raise ScheduleConflict(name, f"has the version {row.version}, not {version}: somebody else has changed it")
        before = Definition.of(row)
        after = _checked(partial(before.changed, changes), name)
        if after.timing != before.timing:
            _check_not_over(after)
        put = Put(name, after.as_columns(only_changes_from=before), expected=row.version)
        if schedules.put(sql, cursor, put, by=By(who, reason)) not in {"changed", "same"}:
            raise ScheduleConflict(name, "is being changed by somebody else; look at it and try again")
        return _read(sql, cursor, name)

    return command(target, statement)


def remove_schedule(name: str, *, who: str, reason: str = "", force: bool = False, target: Any = None) -> None:
    """Remove a schedule; its history stays, and its tasks go on.

    Args:
        name: Which schedule.
        who: Whom the audit trail names.
        reason: Why.
        force: Also one that is declared in code, such as of a module that no daemon has any more. A daemon that has it
            makes it again when it starts.
        target: A transaction of the caller's.

    Raises:
        ScheduleUnknown: There is no such schedule.
        ScheduleDeclared: It is declared in code.
    """

    def statement(sql: Mapping[str, str], cursor: Cursor) -> None:
        row = _read(sql, cursor, name)
        if row.declared_by is not None and not force:
            raise ScheduleDeclared(name, row.declared_by, "remove it there")
        state = schedules.remove(sql, cursor, name, by=By(who, reason), declared_by=row.declared_by)
        if state == "unknown":
            raise ScheduleUnknown(name)
        if state != "removed":
            raise ScheduleConflict(name, "is being changed by somebody else; look at it and try again")

    command(target, statement)


def pause_schedule(name: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let no instant of a schedule be fired until it is resumed. Pausing it again changes by whom and why.

    It holds for a declared one, too, whatever is deployed. Its tasks go on, and it can be run by hand.

    Raises:
        ScheduleUnknown: There is no such schedule.
    """

    def statement(sql: Mapping[str, str], cursor: Cursor) -> None:
        if not schedules.pause(sql, cursor, name, by=By(who, reason)):
            raise ScheduleUnknown(name)

    command(target, statement)


def resume_schedule(name: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let instants of a schedule be fired again, from now on; those of the pause are not made up for.

    Raises:
        ScheduleUnknown: There is no such schedule.
        ScheduleDeclared: It is declared with ``enabled=False``, which holds.
    """

    def statement(sql: Mapping[str, str], cursor: Cursor) -> None:
        row = _read(sql, cursor, name)
        if row.declared_by is not None and row.paused_by == row.declared_by:
            raise ScheduleDeclared(name, row.declared_by, "enabled=False stands there")
        if not schedules.resume(sql, cursor, name, by=By(who, reason)):
            raise ScheduleUnknown(name)

    command(target, statement)


def run_schedule(name: str, *, who: str, reason: str = "", target: Any = None) -> str:
    """Enqueue a schedule's task now, also if it is paused, and return the id of the task.

    Its instants are due as ever. The policy for overlaps holds, and jitter does not.

    Raises:
        ScheduleUnknown: There is no such schedule.
        ScheduleOverlaps: Its last task has not ended, and ``overlap`` is ``skip``; ``task_id`` says which.
        ActorUnknown: This program has not its actor.
        DuplicateTask: Another task has the key that its actor gives it.
    """

    def statement(sql: Mapping[str, str], cursor: Cursor) -> str:
        for _ in range(_TIMES):
            row = _read(sql, cursor, name)
            state, task_id = schedules.run(sql, cursor, name, row.version, task_of(row), By(who, reason))
            if state == "overlapping":
                raise ScheduleOverlaps(name, str(task_id))
            if state == "fired":
                return str(task_id)
        raise ScheduleConflict(name, "is changed again and again by somebody else; try again")

    with in_our_words():
        return command(target, statement)


def find_schedule(name: str, *, target: Any = None) -> ScheduleRow:
    """Return what is known of a schedule.

    Raises:
        ScheduleUnknown: There is no such schedule.
    """
    return command(target, partial(_read, name=name))


def list_schedules(*, target: Any = None) -> list[ScheduleRow]:
    """Return all schedules in the order of their names."""
    return command(target, schedules.schedules)


def list_firings(
    name: str | None = None, *, before: datetime | None = None, limit: int = 50, target: Any = None
) -> list[FiringRow]:
    """Return what was fired, left out and missed, newest first: of one schedule, also a removed one, or of all.

    Args:
        name: Which schedule.
        before: Only what was dealt with before this: the ``fired_at`` of the last one of the page before.
        limit: How many at most.
        target: A transaction of the caller's.
    """
    return command(target, partial(schedules.firings, schedule=name, before=before, limit=limit))


def preview_schedule(name: str, n: int = 10, *, after: datetime | None = None, target: Any = None) -> Sequence[Preview]:
    """Compute the next instants of a schedule, as if it were not paused; marked where the clock of its zone jumps.

    Raises:
        ScheduleUnknown: There is no such schedule.
    """
    row = find_schedule(name, target=target)
    return preview(timing_of(row), after or datetime.now(tz=UTC), n)


def next_due(row: ScheduleRow) -> datetime | None:
    """Return the next instant that is not dealt with, in UTC; None if it is paused or over.

    It lies in the past if no daemon fires.
    """
    return following(timing_of(row), row.done_until) if row.state == "active" else None


# --- what they have in common -----------------------------------------------------------------------------------------


def _read(sql: Mapping[str, str], cursor: Cursor, name: str) -> ScheduleRow:
    rows = schedules.schedules(sql, cursor, name=name)
    if not rows:
        raise ScheduleUnknown(name)
    return rows[0]


def _checked(make: partial[Definition], name: str) -> Definition:
    try:
        definition = make()
    except ScheduleInvalid as error:
        raise error.of(name) from None
    check(definition)
    return definition


def _check_not_over(definition: Definition) -> None:
    """Refuse what was due once and is never again."""
    # By this machine's clock: whoever is late by its error is late.
    if following(definition.timing, datetime.now(tz=UTC)) is None:
        field = "ends_at" if definition.ends_at is not None else "expression"
        raise ScheduleInvalid(field, "it is over: no instant lies ahead", definition.name)
