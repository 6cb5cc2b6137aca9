"""Tasks that are made over HTTP: at most one of a request, however often it is sent.

A client that hears no answer cannot know whether there is a task. So it sends an ``Idempotency-Key`` of its own making,
and the same again: then the first task is the answer. The key becomes the idempotency key of the message
(``pipeline.broker.keys``), under the caller's name. Of any number of requests with it, in any processes, one makes the
task, since the key is a primary key; the others wait for its transaction. It holds until a day after the task has
ended. An id that is made of the key would not do: ids are unique within a week only, and an id that is sent again means
that the task runs again.

What was sent with the key is kept as a digest among the options of the message.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import UnprocessableEntity

from api.acting import act, by
from api.auth import who
from api.problems import BodyInvalid
from pipeline.broker import by_name
from pipeline.broker.actor import new_id
from pipeline.broker.by_name import Letter
from pipeline.errors import DuplicateTask, TaskNotFound
from pipeline.runtime import our_broker
from pipeline.store import actors, queues, tasks, workers
from pipeline.store.tasks import TaskRow

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from api.shapes.commands import NewTask
    from pipeline.store.actors import ActorRow

_HEADER = "Idempotency-Key"
#: Where a message keeps what it was asked for with.
_DIGEST = "idempotency_digest"


class IdempotencyKeyReused(UnprocessableEntity):
    """Something else was sent with this key before."""

    kind = "idempotency-key-reused"

    def __init__(self, task_id: str) -> None:
        self.more = {"task_id": task_id}
        super().__init__(f"Something else was sent with this {_HEADER} before, which became the task {task_id}")


@dataclass(frozen=True, slots=True)
class Created:
    """What a request has made, or has found made."""

    task: TaskRow
    is_new: bool


def create(wanted: NewTask, idempotency_key: str | None) -> Created:
    """Make a task, unless this request has made it before or another task has its unique key.

    Raises:
        BodyInvalid: A field makes no sense.
        IdempotencyKeyReused: Something else was sent with the key.
        DuplicateTask: Another task has its unique key, and ``on_conflict`` is ``error``.
    """
    key = None if idempotency_key is None else _Key.of(wanted, idempotency_key)
    # Made before the first attempt, so that doing it again after a lost reply makes no second task.
    message_id = new_id(time.time_ns() // 1_000_000)
    try:
        created = act(partial(_create, wanted, key, message_id))
    except DuplicateTask as duplicate:
        if key is None or duplicate.key != key.text or duplicate.task_id is None:
            raise
        return act(partial(_made_before, key, duplicate.task_id))
    if created.is_new:
        our_broker().notifier.notify_soon()
    return created


@dataclass(frozen=True, slots=True)
class _Key:
    """What tells a request that is sent again from another one."""

    #: The idempotency key of the message.
    text: str
    digest: str

    @classmethod
    def of(cls, wanted: NewTask, given: str) -> _Key:
        if wanted.options.on_conflict == "replace":
            raise BodyInvalid({"#/options/on_conflict": f"with an {_HEADER} nothing is replaced"})
        sent = json.dumps(wanted.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        return cls(json.dumps(["http", who(), given]), hashlib.sha256(sent.encode()).hexdigest())


def _create(wanted: NewTask, key: _Key | None, message_id: str, sql: Mapping[str, str], cursor: Cursor) -> Created:
    broker = our_broker()
    announced = _announced(sql, cursor, wanted.actor)
    if wanted.queue is not None:
        _check_queue(sql, cursor, wanted.queue)
    letter = _letter(wanted, key)
    complaint = by_name.wrong_arguments(broker, letter)
    if complaint is not None:
        raise BodyInvalid({"#/args": f"{wanted.actor} cannot be called so: {complaint}"})
    message = by_name.message_of(broker, letter, announced, message_id)
    placed = by_name.send(
        broker,
        message,
        delay_ms=_delay_ms(sql, cursor, wanted),
        is_gated=announced is not None and announced.has_limits,
        target=cursor.connection,
    )
    if placed.message_id == message_id:
        tasks.note_enqueue(sql, cursor, message_id, by(wanted))
        return Created(_read(sql, cursor, message_id), is_new=True)
    if key is not None:
        return _made_before(key, placed.message_id, sql, cursor)
    return Created(_read(sql, cursor, placed.message_id), is_new=False)


def _made_before(key: _Key, task_id: str, sql: Mapping[str, str], cursor: Cursor) -> Created:
    """Answer with the task that was made of the same request, or that has the same unique key."""
    stored = tasks.read(sql, cursor, task_id)
    options: dict[str, Any] = {} if stored is None else json.loads(stored.payload).get("options") or {}
    if options.get("idempotency_key") == key.text and options.get(_DIGEST) != key.digest:
        raise IdempotencyKeyReused(task_id)
    return Created(_read(sql, cursor, task_id), is_new=False)


def _read(sql: Mapping[str, str], cursor: Cursor, task_id: str) -> TaskRow:
    row = tasks.status(sql, cursor, task_id)
    if row is None:
        raise TaskNotFound(task_id)
    return row


def _letter(wanted: NewTask, key: _Key | None) -> Letter:
    options = wanted.message_options
    if key is not None:
        # Said, or what the actor is declared with would hold, which may be that the first task is replaced.
        options = {"on_conflict": "skip"} | options | {"idempotency_key": key.text, _DIGEST: key.digest}
    return Letter(wanted.actor, wanted.args, wanted.kwargs, wanted.queue, wanted.priority, options)


def _delay_ms(sql: Mapping[str, str], cursor: Cursor, wanted: NewTask) -> int | None:
    if wanted.eta is not None:
        now = workers.clock(sql, cursor)  # the database's, which decides when it is due
        return max(0, round((wanted.eta.timestamp() - now) * 1000))
    return None if wanted.delay_seconds is None else round(wanted.delay_seconds * 1000)


def _announced(sql: Mapping[str, str], cursor: Cursor, actor: str) -> ActorRow | None:
    """Find out what workers say of an actor that this process has not.

    Raises:
        BodyInvalid: Nobody knows it.
    """
    known = our_broker().actors
    if actor in known:
        return None
    found = actors.actors(sql, cursor, actor=actor)
    if found:
        return found[0]
    names = {*known, *(each.actor for each in actors.actors(sql, cursor))}
    raise BodyInvalid({"#/actor": f"there is no actor of this name{_near(actor, names)}"})


def _check_queue(sql: Mapping[str, str], cursor: Cursor, queue: str) -> None:
    declared = our_broker().queues
    if queue not in declared and not queues.exists(sql, cursor, queue):
        names = {*declared, *(each.queue for each in queues.depths(sql, cursor))}
        raise BodyInvalid({"#/queue": f"there is no queue of this name{_near(queue, names)}"})


def _near(name: str, names: set[str]) -> str:
    close = get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
