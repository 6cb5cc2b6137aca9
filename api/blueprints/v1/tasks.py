"""Tasks."""

from __future__ import annotations

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import described
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.tasks import LARGE, LARGE_OF_ONE, Selection, Task, TaskListing, TaskPage, TaskPath
from pipeline import TaskNotFound
from pipeline.store import status, tasks
from pipeline.store.tasks import TaskRow, as_task_id

blueprint = Endpoints("tasks", __name__)


@blueprint.get("", responses={200: TaskPage})
@needs(Scope.READ)
def list_tasks(query: TaskListing) -> Response:
    """List tasks, newest first."""
    place = cursors.read("tasks", query, query.cursor)
    filters = status.Filters(query.state or None, query.actor, query.queue, query.tag, query.entity, query.tenant)
    rows = read(status.find, filters, before=place[0] if place else None, limit=query.limit + 1)
    page = rows[: query.limit]
    next_cursor = cursors.sign("tasks", query, [page[-1].task_id]) if len(rows) > query.limit else None
    return answer_page([Task.model_validate(row) for row in page], next_cursor, query.shown(LARGE))


@blueprint.get("/<task_id>", responses={200: Task, 404: described(404)})
@needs(Scope.READ)
def show_task(path: TaskPath, query: Selection) -> Response:
    """Show one task."""
    return answer_one(Task.model_validate(_known(path.task_id)), query.shown(LARGE_OF_ONE))


def _known(task_id: str) -> TaskRow:
    known = as_task_id(task_id)
    row = read(tasks.status, known) if known else None
    if row is None:
        raise TaskNotFound(task_id)
    return row
