"""Commands on workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response

from api.acting import act, by, check_seen
from api.answers import answer_json, answer_one
from api.endpoints import Endpoints
from api.problems import problems
from api.scopes import Scope, needs
from api.shapes.commands import DrainMany, Reason
from api.shapes.workers import Draining, Worker, WorkerPath
from pipeline import WorkerUnknown
from pipeline.commands.workers import drain_workers as drain_in_store
from pipeline.store import status

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

blueprint = Endpoints("workers", __name__)


@blueprint.post("/<worker_id>/drain", responses={202: Worker, **problems(404, 409, 412, 415, 422)})
@needs(Scope.OPERATE)
def drain_worker(path: WorkerPath, body: Reason) -> Response:
    """Let a worker claim nothing more, finish its tasks and end, without a successor."""

    def drain(sql: Mapping[str, str], cursor: Cursor) -> Worker:
        check_seen(lambda: answer_one(_read(sql, cursor, path.worker_id)))
        drain_in_store(sql, cursor, [path.worker_id], by=by(body))
        return _read(sql, cursor, path.worker_id)

    return answer_one(act(drain), status=HTTPStatus.ACCEPTED)


@blueprint.post("/drain", responses={202: Draining, **problems(404, 415, 422)})
@needs(Scope.ADMIN)
def drain_workers(body: DrainMany) -> Response:
    """Let all workers, or all of a machine, claim nothing more, finish their tasks and end, without successors."""
    drained = act(partial(drain_in_store, host=body.host, by=by(body)))
    return answer_json(Draining(worker_ids=drained).model_dump(), HTTPStatus.ACCEPTED)


def _read(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> Worker:
    row = status.worker(sql, cursor, worker_id)
    if row is None:
        raise WorkerUnknown(worker_id)
    return Worker.model_validate(row)
