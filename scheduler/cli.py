"""``pipeline schedule``: look at schedules, preview, run, pause, make and change them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.options import Instant, Json, reason_option, who_option
from scheduler.checks import MISSED, OVERLAP

if TYPE_CHECKING:
    from pipeline.store.schedules import ScheduleRow
    from scheduler.instants import Preview

Command = TypeVar("Command", bound=Callable[..., Any])

#: No callback, for that would open the database before --help is told, and for ``next --cron``, which needs none.
schedule = click.Group(
    "schedule",
    help="Look at schedules; preview, run, pause and resume them; make, change and remove those that no code declares.",
)

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")

#: When it is due.
_TIMING = (
    click.option("--cron", help='By a cron text: "0 2 * * *" at 2:00, "0 18 LW * *" on the last business day.'),
    click.option("--every", metavar="SPAN", help="Again and again: 90s, 15m, 2h, 1d."),
    click.option("--calendar", help='By the calendar: "1 month 09:30", "2 weeks".'),
    click.option("--at", help="Once: 2026-12-24T18:00, in --timezone unless it names an offset."),
    click.option("--timezone", help="The zone of these times, such as Europe/Berlin. [UTC]"),
    click.option("--gap", type=click.Choice(["next", "skip"]), help="Times that the clock jumps over. [next]"),
    click.option("--fold", type=click.Choice(["first", "both"]), help="Times that come twice. [depends on --cron]"),
    click.option("--anchor-at", type=Instant(), help="From when intervals are counted. [Monday, 2018-01-01, midnight]"),
    click.option("--starts-at", type=Instant(), help="Nothing is due before."),
    click.option("--ends-at", type=Instant(), help="Nothing is due after."),
)  # fmt: skip

#: What it sends, and what becomes of instants that cannot be fired as they should be.
_MESSAGE = (
    click.option("--args", type=Json(list, "JSON array"), help="Positional arguments, as a JSON array."),
    click.option("--kwargs", type=Json(dict, "JSON object"), help="Named arguments, as a JSON object."),
    click.option("--queue", help="To this queue. [its actor's]"),
    click.option("--priority", type=int, help="With this priority. [its actor's]"),
    click.option("--tag", "tags", multiple=True, help="With this tag; repeatable."),
    click.option("--options", type=Json(dict, "JSON object"), help="With these options, as a JSON object."),
    click.option("--description", help="What it is for."),
    click.option("--missed", type=click.Choice(MISSED), help="What nobody fired in time. [once]"),
    click.option("--max-age", metavar="SPAN", help="With --missed all: none that is older."),
    click.option("--grace", metavar="SPAN", help="Fired later than this, it was missed. [15s]"),
    click.option("--overlap", type=click.Choice(OVERLAP), help="While its last task has not ended. [allow]"),
    click.option("--jitter", metavar="SPAN", help="Let each task begin up to so much later. [0s]"),
)  # fmt: skip

#: What can be taken away from a schedule again, and what it has then.
_LIMITS = {"queue": None, "priority": None, "max-age": None, "starts-at": None, "ends-at": None, "tags": ()}


def _with(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@schedule.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show each schedule: when it is due, when next and last, in its own zone, and what became of its last task."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import list_schedules

    use_running_database()
    rows = list_schedules()
    if as_json:
        tables.show_json([_as_json(row) for row in rows])
    else:
        tables.show(tables.schedule_table((row, *_next(row)) for row in rows))


@schedule.command()
@click.argument("name")
@click.option(
    "--firings", default=10, show_default=True, type=click.IntRange(0, 1000), help="How many of the last ones."
)
@_json
def show(name: str, firings: int, as_json: bool) -> None:
    """Show all about the schedule NAME, and what became of its last instants."""
    from pipeline.cli import tables
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import find_schedule, list_firings

    use_running_database()
    row = find_schedule(name)
    told = _as_json(row)
    history = list_firings(name, limit=firings) if firings else []
    if as_json:
        tables.show_json({**told, "firings": history})
    else:
        details = [(column, value) for column, value in told.items() if value not in (None, "", [], {})]
        tables.show(tables.detail_table(details), tables.firing_table(history, row.timezone))


@schedule.command("next")
@click.argument("name", required=False)
@_with(*_TIMING)
@click.option("--after", type=Instant(), help="From this time on. [now]")
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@_json
def next_(name: str | None, after: datetime | None, count: int, as_json: bool, **timing: Any) -> None:
    """Preview when the schedule NAME is due, or, without a database, what --cron and the like would mean.

    Marked is where the clock of the zone jumps: over the time at which it would be due, or back, so that the time comes
    twice.
    """
    from pipeline.cli import tables

    given = _given(timing)
    if (name is None) == (not given):
        raise click.UsageError("Name a schedule, or say by --cron, --every, --calendar or --at when something is due")
    found = _of_fields(given, after, count) if name is None else _of_schedule(name, after, count)
    if as_json:
        tables.show_json(found)
    else:
        tables.show(tables.instant_table((each.local, _remark(each)) for each in found))


def _of_schedule(name: str, after: datetime | None, count: int) -> Sequence[Preview]:
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import preview_schedule

    use_running_database()
    return preview_schedule(name, count, after=after)


def _of_fields(given: dict[str, Any], after: datetime | None, count: int) -> Sequence[Preview]:
    from scheduler.definition import Definition
    from scheduler.instants import preview
    from scheduler.timing import check

    timing = Definition.new("", "", given).timing
    check(timing)
    return preview(timing, after or datetime.now(tz=UTC), count)


def _remark(found: Preview) -> str:
    from scheduler.instants import Mark

    return {
        Mark.GAP: "the clock jumps over its time",
        Mark.FOLD_FIRST: "comes twice, the first time",
        Mark.FOLD_SECOND: "comes twice, the second time",
        None: "",
    }[found.mark]


@schedule.command()
@click.argument("name")
@reason_option
@who_option
def run(name: str, who: str, reason: str) -> None:
    """Enqueue a task of the schedule NAME now, also while it is paused, and print the task's id."""
    from scheduler.commands import run_schedule

    _use_actors()
    click.echo(run_schedule(name, who=who, reason=reason))


@schedule.command()
@click.argument("name")
@reason_option
@who_option
def pause(name: str, who: str, reason: str) -> None:
    """Fire no instant of the schedule NAME until it is resumed; its tasks go on."""
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import pause_schedule

    use_running_database()
    pause_schedule(name, who=who, reason=reason)
    click.echo(f"The schedule {name} is paused.")


@schedule.command()
@click.argument("name")
@reason_option
@who_option
def resume(name: str, who: str, reason: str) -> None:
    """Fire instants of the schedule NAME again, from now on."""
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import find_schedule, resume_schedule

    use_running_database()
    resume_schedule(name, who=who, reason=reason)
    click.echo(f"The schedule {name} goes on; {_due(find_schedule(name))}.")


@schedule.command()
@click.argument("name")
@click.argument("actor")
@_with(*_TIMING, *_MESSAGE)
@click.option("--paused", is_flag=True, help="Make it paused.")
@reason_option
@who_option
def add(name: str, actor: str, paused: bool, who: str, reason: str, **fields: Any) -> None:
    """Make a schedule NAME that sends messages to ACTOR; one of --cron, --every, --calendar and --at says when."""
    from scheduler.commands import add_schedule

    _use_actors()
    row = add_schedule(name, actor, who=who, reason=reason, paused=paused, **_given(fields))
    click.echo(f"The schedule {name} is made; {_due(row)}.")


@schedule.command()
@click.argument("name")
@click.option("--actor", help="Let it send messages to another actor.")
@_with(*_TIMING, *_MESSAGE)
@click.option(
    "--clear", "cleared", multiple=True, type=click.Choice(list(_LIMITS)), help="Let it have none; repeatable."
)
@click.option("--version", type=int, help="Only if it still has this version.")
@reason_option
@who_option
def edit(name: str, cleared: Sequence[str], version: int | None, who: str, reason: str, **fields: Any) -> None:
    """Change what is given of the schedule NAME, unless it is declared in code."""
    from scheduler.commands import edit_schedule

    changes = _given(fields) | {each.replace("-", "_"): _LIMITS[each] for each in cleared}
    if not changes:
        raise click.UsageError("Say what is to change")
    _use_actors()
    row = edit_schedule(name, who=who, reason=reason, version=version, **changes)
    click.echo(f"The schedule {name} has the version {row.version}; {_due(row)}.")


@schedule.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also one that is declared in code. A daemon that has it makes it again.")
@reason_option
@who_option
def remove(name: str, force: bool, who: str, reason: str) -> None:
    """Remove the schedule NAME; its history stays, and its tasks go on."""
    from pipeline.cli.environment import use_running_database
    from scheduler.commands import remove_schedule

    use_running_database()
    remove_schedule(name, who=who, reason=reason, force=force)
    click.echo(f"The schedule {name} is removed.")


def _use_actors() -> None:
    """Find the database, and know the actors that schedules may have."""
    from pipeline.cli.environment import use_running_database
    from scheduler.declare import declared

    use_running_database()
    declared()


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


def _as_json(row: ScheduleRow) -> dict[str, Any]:
    from dataclasses import asdict

    due_at, problem = _next(row)
    return {"name": row.name, "state": row.state, "next_due_at": due_at, "problem": problem, **asdict(row)}


def _next(row: ScheduleRow) -> tuple[datetime | None, str | None]:
    """Return when it is due next, or what is wrong with it: somebody may have written it by SQL."""
    from pipeline.errors import ScheduleInvalid
    from scheduler.commands import next_due

    try:
        return next_due(row), None
    except ScheduleInvalid as error:
        return None, f"{error.field}: {error.reason}"


def _due(row: ScheduleRow) -> str:
    from zoneinfo import ZoneInfo

    if row.state == "paused":
        return "it is paused"
    upcoming, problem = _next(row)
    if problem is not None:
        return problem
    return f"it is due next at {upcoming.astimezone(ZoneInfo(row.timezone)).isoformat()}" if upcoming else "it is over"
