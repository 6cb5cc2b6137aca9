"""Tasks: which there are, and what has become of one."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from api import cursors
from api.answers import answer_one, answer_page
from api.auth import caller
from api.endpoints import Endpoints
from api.live.snapshots import Snapshot
from api.live.stream import stream, streams
from api.live.subscription import Watcher
from api.live.waiting import answer_when_changed
from api.problems import NOT_FOUND, UNCHANGED
from api.reading import read
from api.refusals import ScopeMissing
from api.scopes import Scope, needs
from api.shapes.lists import Listing
from api.shapes.live import ENDED, ONE_TASK, Following, Waiting
from api.shapes.tasks import (
    LARGE,
    LARGE_OF_ONE,
    Attempt,
    AttemptListing,
    AttemptPage,
    Count,
    Event,
    EventPage,
    Line,
    LineListing,
    LinePage,
    Task,
    TaskFilters,
    TaskListing,
    TaskPage,
    TaskPath,
)
from api.visibility import sight
from pipeline import TaskNotFound
from pipeline.store import search, status, task_logs, tasks, timeline
from pipeline.store.task_logs import BEGINNING, Place
from pipeline.store.tasks import TaskRow, as_task_id

blueprint = Endpoints("tasks", __name__)

#: So long a search goes on that no index answers; the next part goes on from there.
_SEARCH_MS = 30
#: So many are counted, for so long, if not all are to be.
_CAP, _COUNT_MS = 1000, 200


@blueprint.get("", responses={200: TaskPage})
@needs(Scope.READ)
def list_tasks(query: TaskListing) -> Response:
    """List tasks, the newest first: those that match all of what is given."""
    _check_sight(query)
    place = cursors.read("tasks", query, query.cursor)
    large = query.shown(LARGE) & LARGE
    found = read(
        search.search,
        query.asked,
        before=place[0] if place else None,
        limit=query.limit + 1,
        within_ms=_SEARCH_MS,
        large=large,
    )
    page, next_cursor = cursors.cut("tasks", query, found.tasks, lambda row: [row.id])
    if found.searched_to is not None:
        next_cursor = cursors.sign("tasks", query, [found.searched_to])
    items = [Task.model_validate(row) for row in page]
    more = {"searched_to": found.searched_to_at, **_counted(query)}
    return answer_page(items, next_cursor, query.shown(LARGE), **more)


def _check_sight(asked: TaskFilters) -> None:
    """Refuse to look for a text in what the caller does not see: who may guess often enough would read it so."""
    if asked.text is not None and not sight().payloads:
        raise ScopeMissing(Scope.OPERATE, caller().scope)


def _counted(query: TaskListing) -> dict[str, Any]:
    """Count, if that was asked for."""
    if query.count == "none":
        return {}
    how = {"limit": _CAP, "within_ms": _COUNT_MS} if query.count == "capped" else {}
    count = read(search.count, query.asked, **how)
    return {"count": Count(value=count.value, is_exact=count.is_exact).model_dump()}


@blueprint.get("/<task_id>", responses={200: Task, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_task(path: TaskPath, query: Waiting) -> Response:
    """Show one task, now or as soon as it has changed."""
    shown = query.shown(LARGE_OF_ONE)
    return answer_when_changed(
        lambda: _known(path.task_id),
        lambda row: answer_one(Task.model_validate(row), shown),
        wait_seconds=query.wait,
        since=query.since,
    )


@blueprint.get("/<task_id>/events", responses={**ONE_TASK, 204: ENDED, 404: NOT_FOUND})
@needs(Scope.READ)
@streams
def watch_task(path: TaskPath, query: Following) -> Response:
    """Watch one task until it has ended."""
    snapshot = Snapshot(_known(path.task_id), has_payloads=sight().payloads)
    seen = request.headers.get("Last-Event-ID") or query.last_event_id
    if snapshot.is_final and snapshot.version == seen:
        return Response(status=204)  # which alone keeps an EventSource from connecting again
    watcher = Watcher(snapshot.row.id, seen, sees_payloads=snapshot.has_payloads, credential=caller().credential)
    return stream(watcher)


@blueprint.get("/<task_id>/attempts", responses={200: AttemptPage, 404: NOT_FOUND})
@needs(Scope.READ)
def list_attempts(path: TaskPath, query: AttemptListing) -> Response:
    """List how the runs of a task ended, in their order."""
    task_id, name = _known(path.task_id).task_id, f"attempts/{path.task_id}"
    place = cursors.read(name, query, query.cursor)
    rows = read(status.attempts, task_id, after=place[0] if place else 0, limit=query.limit + 1)
    page, next_cursor = cursors.cut(name, query, rows, lambda row: [row.run])
    shown = set(Attempt.model_fields) - {"traceback"} | set(query.include)
    return answer_page([Attempt.model_validate(row) for row in page], next_cursor, shown)


@blueprint.get("/<task_id>/logs", responses={200: LinePage, 404: NOT_FOUND})
@needs(Scope.READ)
def show_logs(path: TaskPath, query: LineListing) -> Response:
    """List what a task logged, in the order of its runs and of logging."""
    task_id, name = _known(path.task_id).task_id, f"logs/{path.task_id}"
    place = cursors.read(name, query, query.cursor)
    after = Place(*place) if place else BEGINNING
    rows = read(task_logs.read, task_id, run=query.run, level=query.level, after=after, limit=query.limit + 1)
    page, next_cursor = cursors.cut(name, query, rows, lambda row: list(row.place))
    tail_cursor = cursors.sign(name, query, list(page[-1].place)) if page else query.cursor
    return answer_page([Line.model_validate(row) for row in page], next_cursor, tail_cursor=tail_cursor)


@blueprint.get("/<task_id>/timeline", responses={200: EventPage, 404: NOT_FOUND})
@needs(Scope.READ)
def show_timeline(path: TaskPath, query: Listing) -> Response:
    """List what has happened to a task, in its order."""
    task_id, name = _known(path.task_id).task_id, f"timeline/{path.task_id}"
    place = cursors.read(name, query, query.cursor)
    # What has happened stays what it was, so that its number is a place. There is no more of it than of attempts.
    rows = read(timeline.timeline, task_id)
    numbered = list(enumerate(rows))[place[0] if place else 0 :]
    page, next_cursor = cursors.cut(name, query, numbered, lambda each: [each[0] + 1])
    return answer_page([Event.model_validate(row) for _, row in page], next_cursor)


def _known(task_id: str) -> TaskRow:
    known = as_task_id(task_id)
    row = read(tasks.status, known) if known else None
    if row is None:
        raise TaskNotFound(task_id)
    return row
