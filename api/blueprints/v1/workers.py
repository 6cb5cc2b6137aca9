"""Workers."""

from __future__ import annotations

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import NOT_FOUND, UNCHANGED
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.workers import Worker, WorkerListing, WorkerPage, WorkerPath
from pipeline import WorkerUnknown
from pipeline.store import status

blueprint = Endpoints("workers", __name__)


@blueprint.get("", responses={200: WorkerPage})
@needs(Scope.READ)
def list_workers(query: WorkerListing) -> Response:
    """List workers, the newest first, and what runs in them."""
    place = cursors.read("workers", query, query.cursor)
    before = place[0] if place else None
    rows = read(status.list_workers, states=query.state or None, host=query.host, before=before, limit=query.limit + 1)
    page, next_cursor = cursors.cut("workers", query, rows, lambda row: [row.worker_id])
    return answer_page([Worker.model_validate(row) for row in page], next_cursor)


@blueprint.get("/<worker_id>", responses={200: Worker, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_worker(path: WorkerPath) -> Response:
    """Show one worker."""
    row = read(status.worker, path.worker_id)
    if row is None:
        raise WorkerUnknown(path.worker_id)
    return answer_one(Worker.model_validate(row))
