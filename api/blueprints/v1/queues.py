"""Queues."""

from __future__ import annotations

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import NOT_FOUND, UNCHANGED
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.queues import QUEUE_SETTINGS, Counting, Queue, QueueListing, QueuePage, QueuePath
from pipeline import QueueUnknown
from pipeline.store import queues

blueprint = Endpoints("queues", __name__)


@blueprint.get("", responses={200: QueuePage})
@needs(Scope.READ)
def list_queues(query: QueueListing) -> Response:
    """List queues by their names: their settings, and what waits and runs in them."""
    place = cursors.read("queues", query, query.cursor)
    rows = read(queues.depths, after=place[0] if place else None, limit=query.limit + 1, most=query.most)
    page, next_cursor = cursors.cut("queues", query, rows, lambda row: [row.queue])
    return answer_page([Queue.model_validate(row) for row in page], next_cursor)


@blueprint.get("/<queue>", responses={200: Queue, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_queue(path: QueuePath, query: Counting) -> Response:
    """Show one queue."""
    rows = read(queues.depths, queue=path.queue, limit=1, most=query.most)
    if not rows:
        raise QueueUnknown(path.queue)
    return answer_queue(Queue.model_validate(rows[0]))


def answer_queue(queue: Queue) -> Response:
    """Answer with one queue."""
    return answer_one(queue, settings=QUEUE_SETTINGS)
