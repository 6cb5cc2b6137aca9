"""Schedules: what sends messages by the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Response, request
from werkzeug.exceptions import Conflict

from api import cursors
from api.acting import act, check_seen
from api.answers import answer_json, answer_one, answer_page
from api.auth import who
from api.endpoints import Endpoints
from api.problems import NOT_FOUND, UNCHANGED, BodyInvalid, Responses, problems
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.commands import Reason
from api.shapes.lists import Listing
from api.shapes.schedules import (
    ChangeSchedule,
    Firing,
    FiringListing,
    FiringPage,
    Instant,
    NewSchedule,
    Preview,
    PreviewOf,
    Removal,
    Schedule,
    SchedulePage,
    SchedulePath,
    Upcoming,
)
from api.shapes.tasks import LARGE_OF_ONE, Selection, Task
from pipeline import ActorUnknown, ScheduleInvalid, ScheduleUnknown
from pipeline.store import schedules, tasks
from pipeline.store.schedules import ScheduleRow
from scheduler import (
    add_schedule,
    edit_schedule,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
)
from scheduler.commands import next_due
from scheduler.definition import Definition
from scheduler.instants import preview
from scheduler.timing import check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

T = TypeVar("T")

blueprint = Endpoints("schedules", __name__)

_REFUSED: Responses = problems(404, 409, 412, 415, 422)
_CHANGED: Responses = {200: Schedule, **_REFUSED}
#: What the scheduler calls otherwise than we do.
_SPANS = frozenset({"max_age", "grace", "jitter"})
_TIMINGS = ("cron", "every", "calendar", "at")


@blueprint.get("", responses={200: SchedulePage})
@needs(Scope.READ)
def list_schedules(query: Listing) -> Response:
    """List schedules by their names."""
    place = cursors.read("schedules", query, query.cursor)
    # All of them are read: there are not many, and people made each of them.
    rows = sorted(read(schedules.schedules), key=lambda row: row.name)
    behind = [row for row in rows if place is None or row.name > place[0]]
    page, next_cursor = cursors.cut("schedules", query, behind[: query.limit + 1], lambda row: [row.name])
    return answer_page([_shape(row) for row in page], next_cursor)


@blueprint.post("", responses={201: Schedule, **problems(409, 413, 415, 422)})
@needs(Scope.OPERATE)
def create_schedule(body: NewSchedule) -> Response:
    """Make a schedule. Its actor must be one of this program."""
    add = partial(add_schedule, body.name, who=who(), reason=body.reason, paused=body.paused, **body.fields)
    with _blamed(body):
        row = act(lambda _, cursor: add(target=cursor.connection))
    response = _answer(row, HTTPStatus.CREATED)
    response.headers["Location"] = f"{request.script_root}{request.path.rstrip('/')}/{row.name}"
    return response


@blueprint.post("/preview", responses={200: Preview, **problems(415, 422)})
@needs(Scope.READ)
def preview_timing(body: PreviewOf) -> Response:
    """Compute when a schedule would be due that is not there yet."""
    with _blamed(body):
        timing = Definition.new("preview", "preview", body.fields).timing
        check(timing)
        return _answer_preview(preview(timing, body.after or datetime.now(tz=UTC), body.n))


@blueprint.get("/<name>", responses={200: Schedule, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_schedule(path: SchedulePath) -> Response:
    """Show one schedule. Its ETag begins with its version, which alone counts in If-Match."""
    return _answer(read(_known, path.name))


@blueprint.patch("/<name>", responses={**_CHANGED, **problems(413)})
@needs(Scope.OPERATE)
def change_schedule(path: SchedulePath, body: ChangeSchedule) -> Response:
    """Change what is given of a schedule that was made at run time."""
    with _blamed(body):
        return _change(path, partial(edit_schedule, path.name, who=who(), reason=body.reason, **body.fields))


@blueprint.delete("/<name>", responses={204: None, **problems(404, 409, 412)})
@needs(Scope.ADMIN)
def delete_schedule(path: SchedulePath, query: Removal) -> Response:
    """Remove a schedule. Its history stays, and its tasks go on."""
    remove = partial(remove_schedule, path.name, who=who(), reason=query.reason, force=query.force)
    act(partial(_do, path.name, remove))
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/<name>/pause", responses=_CHANGED)
@needs(Scope.OPERATE)
def pause(path: SchedulePath, body: Reason) -> Response:
    """Let no instant of a schedule be fired until it is resumed."""
    return _change(path, partial(pause_schedule, path.name, who=who(), reason=body.reason))


@blueprint.post("/<name>/resume", responses=_CHANGED)
@needs(Scope.OPERATE)
def resume(path: SchedulePath, body: Reason) -> Response:
    """Let instants of a schedule be fired again, from now on."""
    return _change(path, partial(resume_schedule, path.name, who=who(), reason=body.reason))


@blueprint.post("/<name>/run", responses={201: Task, **problems(413), **_REFUSED})
@needs(Scope.OPERATE)
def run(path: SchedulePath, body: Reason) -> Response:
    """Enqueue a schedule's task now, also if it is paused."""
    command = partial(run_schedule, path.name, who=who(), reason=body.reason)

    def deed(sql: Mapping[str, str], cursor: Cursor) -> Task:
        task_id = _do(path.name, command, sql, cursor)
        return Task.model_validate(tasks.status(sql, cursor, task_id))

    try:
        task = act(deed)
    except ActorUnknown as error:
        raise Conflict(f"{error}, or this program has not") from error
    response = answer_one(task, Selection().shown(LARGE_OF_ONE), HTTPStatus.CREATED)
    collection = request.path.rstrip("/").rsplit("/", 3)[0]
    response.headers["Location"] = f"{request.script_root}{collection}/tasks/{task.task_id}"
    return response


@blueprint.get("/<name>/next", responses={200: Preview, 404: NOT_FOUND})
@needs(Scope.READ)
def show_next(path: SchedulePath, query: Upcoming) -> Response:
    """Compute the next due instants of a schedule, as if it were not paused."""
    row = read(_known, path.name)
    return _answer_preview(preview(Definition.of(row).timing, datetime.now(tz=UTC), query.n))


@blueprint.get("/<name>/firings", responses={200: FiringPage, 404: NOT_FOUND})
@needs(Scope.READ)
def list_firings(path: SchedulePath, query: FiringListing) -> Response:
    """List what a schedule has fired, left out and missed, the newest first; also a removed one."""
    list_name = f"firings/{path.name}"
    place = cursors.read(list_name, query, query.cursor)
    before, before_due = map(datetime.fromisoformat, place) if place else (None, None)
    rows = read(schedules.firings, path.name, before=before, before_due=before_due, limit=query.limit + 1)
    if not rows and place is None:
        read(_known, path.name)
    page, next_cursor = cursors.cut(list_name, query, rows, lambda row: [str(row.fired_at), str(row.due_at)])
    return answer_page([Firing.model_validate(row) for row in page], next_cursor)


# --- what they have in common -----------------------------------------------------------------------------------------


def _change(path: SchedulePath, command: Callable[..., Any]) -> Response:
    """Change a schedule, if it is as the client has seen it, and answer with what it is then."""

    def deed(sql: Mapping[str, str], cursor: Cursor) -> ScheduleRow:
        _do(path.name, command, sql, cursor)
        return _known(sql, cursor, path.name)

    return _answer(act(deed))


def _do(name: str, command: Callable[..., T], sql: Mapping[str, str], cursor: Cursor) -> T:
    """Do something to a schedule, if it has the version that the client has seen."""

    def seen() -> Response:
        schedules.hold(sql, cursor, name)
        return _answer(_known(sql, cursor, name))

    check_seen(seen)
    return command(target=cursor.connection)


@contextmanager
def _blamed(body: Any) -> Iterator[None]:
    """Let what is wrong with a schedule be the fault of the field of the body that says it."""
    try:
        yield
    except ScheduleInvalid as error:
        given = next((name for name in _TIMINGS if getattr(body, name) is not None), "cron")
        field = {"expression": given, "kind": given}.get(error.field or "", error.field)
        field = f"{field}_seconds" if field in _SPANS else field
        raise BodyInvalid({f"#/{field}": error.reason}) from error


def _known(sql: Mapping[str, str], cursor: Cursor, name: str) -> ScheduleRow:
    rows = schedules.schedules(sql, cursor, name=name)
    if not rows:
        raise ScheduleUnknown(name)
    return rows[0]


def _shape(row: ScheduleRow) -> Schedule:
    columns = {name: getattr(row, name) for name in Schedule.model_fields if name != "next_due_at"}
    return Schedule(**columns, next_due_at=next_due(row))


def _answer(row: ScheduleRow, status: int = HTTPStatus.OK) -> Response:
    return answer_one(_shape(row), status=status, version=f"v{row.version}")


def _answer_preview(instants: Any) -> Response:
    return answer_json(Preview(items=[Instant.model_validate(each) for each in instants]).model_dump())
