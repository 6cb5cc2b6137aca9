"""Commands on many tasks: those that are named, or the newest that match.

Each is the command on one task, in the same words, at ``/tasks`` instead of ``/tasks/{task_id}``. All are done in one
transaction and one statement. A task that it cannot be done to does not stand in the way of the others: each has its
own status in the answer, which is 200.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response

from api.acting import act, blamed_on, by
from api.answers import answer_json
from api.endpoints import Endpoints
from api.problems import Responses, problems, urn_of
from api.scopes import Scope, needs
from api.shapes.bulk import (
    BulkAnswer,
    BulkItem,
    CancelMany,
    MoveMany,
    ReprioritiseMany,
    RescheduleMany,
    RetryMany,
    Selected,
    SnoozeMany,
)
from api.shapes.tasks import LARGE, Count, Task
from api.visibility import visible
from pipeline import DuplicateTask, QueueUnknown, TaskConflict, TaskNotFound, TaskState
from pipeline.commands.bulk import act_on_tasks
from pipeline.context import delay_ms
from pipeline.runtime import our_broker
from pipeline.states import TaskAction, allowed_actions
from pipeline.store import search, tasks
from pipeline.store.bulk import Deed, Told
from pipeline.store.status import ACTIVE_STATES

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.tasks import TaskRow

blueprint = Endpoints("tasks", __name__)

_ANSWERS: Responses = {200: BulkAnswer, **problems(413, 415, 422)}
#: So many are shown in a dry run, so many counted, and for so long.
_SAMPLE, _CAP, _SEARCH_MS = 20, 10_000, 500
#: A thousand retries took four seconds on two cores that a dozen other processes wanted.
_SECONDS = 20
_WAITING = frozenset({TaskState.SCHEDULED, TaskState.QUEUED})
#: What a filter means that names no state; where it is not what waits.
_MEANT = {TaskAction.CANCEL: ACTIVE_STATES, TaskAction.RETRY: frozenset({TaskState.FAILED})}
#: What the commands say when they have done what was asked for.
_STATUSES = {tasks.DONE: HTTPStatus.OK, "cancelled": HTTPStatus.OK, "cancelling": HTTPStatus.ACCEPTED}


@blueprint.post("/cancel", responses=_ANSWERS)
@needs(Scope.OPERATE)
def cancel_tasks(body: CancelMany) -> Response:
    """Cancel tasks. A filter without a state means those that wait or run."""
    return _answer(body, Deed(TaskAction.CANCEL, force_after_ms=body.force_after_ms))


@blueprint.post("/retry", responses=_ANSWERS)
@needs(Scope.OPERATE)
def retry_tasks(body: RetryMany) -> Response:
    """Let tasks run now. A filter without a state means those that have failed."""
    return _answer(body, Deed(TaskAction.RETRY, again=body.again))


@blueprint.post("/snooze", responses=_ANSWERS)
@needs(Scope.OPERATE)
def snooze_tasks(body: SnoozeMany) -> Response:
    """Let waiting tasks wait for so long at least, from now on."""
    return _answer(body, Deed(TaskAction.SNOOZE, delay_ms=delay_ms(body.seconds)))


@blueprint.post("/reschedule", responses=_ANSWERS)
@needs(Scope.OPERATE)
def reschedule_tasks(body: RescheduleMany) -> Response:
    """Let waiting tasks be due at another time."""
    return _answer(body, Deed(TaskAction.RESCHEDULE, eta=body.eta))


@blueprint.post("/reprioritise", responses=_ANSWERS)
@needs(Scope.OPERATE)
def reprioritise_tasks(body: ReprioritiseMany) -> Response:
    """Give waiting tasks another priority, which their retries keep."""
    return _answer(body, Deed(TaskAction.REPRIORITISE, priority=body.priority))


@blueprint.post("/move", responses=_ANSWERS)
@needs(Scope.OPERATE)
def move_tasks(body: MoveMany) -> Response:
    """Let waiting tasks wait in another queue, whose workers must have their actors."""
    with blamed_on("queue", QueueUnknown):
        return _answer(body, Deed(TaskAction.MOVE, queue=body.queue))


def _answer(body: Selected, deed: Deed) -> Response:
    answer = act(partial(_look, body, deed)) if body.is_dry else act(partial(_do, body, deed), seconds=_SECONDS)
    shown = answer.model_dump(exclude={"sample": {"__all__": set(LARGE)}})
    return answer_json({**shown, "sample": [visible(task) for task in shown["sample"]]})


def _look(body: Selected, deed: Deed, sql: Mapping[str, str], cursor: Cursor) -> BulkAnswer:
    """Count what is meant, and show some."""
    if body.filter is None:
        rows = [row for each in _ids(body) if (row := tasks.status(sql, cursor, each)) is not None]
        return _answered(deed, Count(value=len(rows), is_exact=True), sample=rows[:_SAMPLE])
    asked = _asked(body, deed)
    count = search.count(sql, cursor, asked, limit=_CAP, within_ms=_SEARCH_MS)
    sample = search.search(sql, cursor, asked, limit=_SAMPLE, within_ms=_SEARCH_MS).tasks
    return _answered(deed, Count(value=count.value, is_exact=count.is_exact), sample=sample)


def _do(body: Selected, deed: Deed, sql: Mapping[str, str], cursor: Cursor) -> BulkAnswer:
    ids, is_all = _ids(body), True
    if body.filter is not None:
        found = search.search(sql, cursor, _asked(body, deed), limit=body.limit + 1, within_ms=_SEARCH_MS)
        ids = [row.task_id for row in found.tasks[: body.limit]]
        is_all = len(found.tasks) <= body.limit and found.searched_to is None
    ensure = our_broker().sender.ensure_lanes
    told = act_on_tasks(sql, cursor, ids, deed, ensure_lanes=ensure, by=by(body)) if ids else []
    return _answered(deed, Count(value=len(told), is_exact=is_all), told=told)


def _ids(body: Selected) -> list[str]:
    return [str(each) for each in dict.fromkeys(body.ids or ())]


def _asked(body: Selected, deed: Deed) -> search.Asked:
    assert body.filter is not None  # noqa: S101 - the caller looked
    asked = body.filter.asked
    return asked if asked.states else replace(asked, states=_MEANT.get(deed.action, _WAITING))


def _answered(
    deed: Deed, matched: Count, *, told: Sequence[Told] = (), sample: Sequence[TaskRow] | None = None
) -> BulkAnswer:
    items = [_item(each) for each in told]
    return BulkAnswer(
        action=deed.action,
        dry_run=sample is not None,
        matched=matched,
        counts=dict(Counter(str(item.status) for item in items)),
        items=items,
        sample=[Task.model_validate(row) for row in sample or ()],
    )


def _item(told: Told) -> BulkItem:
    status, error = _judged(told)
    return BulkItem(
        task_id=told.task_id,
        status=status,
        problem=None if error is None else urn_of(error),
        state=told.state,
        allowed_actions=[] if told.state is None else list(allowed_actions(told.state)),
    )


def _judged(told: Told) -> tuple[HTTPStatus, type[Exception] | None]:
    """Tell how the command on this task alone would have answered."""
    if told.told is None:
        return HTTPStatus.NOT_FOUND, TaskNotFound
    if told.told in _STATUSES:
        return _STATUSES[told.told], None
    return HTTPStatus.CONFLICT, DuplicateTask if told.told == "held" else TaskConflict
