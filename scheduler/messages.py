"""The message that a schedule sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.errors import ActorNotFound

from pipeline import ActorUnknown
from pipeline.broker.placing import with_own_keys
from pipeline.runtime import our_broker

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.context import NewTask
    from pipeline.store.schedules import ScheduleRow
    from scheduler.definition import Definition

#: Overlap policies under which its tasks run one after the other.
IN_ORDER = frozenset({"queue", "cancel"})


def task_of(schedule: ScheduleRow, due_at: datetime | None = None) -> NewTask:
    """Make a new task of a schedule, as its actor would be sent a message; its lane is made if it is missing.

    Its actor finds in ``current_task().options`` which ``schedule`` has sent it and, unless it was run by hand, for
    which instant: ``due_at``, in ISO 8601. It may run later, on the next day even.

    Raises:
        ActorUnknown: This program knows no such actor.
        MessageNotEncodable: Its arguments, tags or options make no sense.
        MessageTooLarge: They are too large.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    task = encoded(schedule, due_at)
    our_broker().sender.ensure_lanes([task.lane])
    return task


def encoded(schedule: ScheduleRow | Definition, due_at: datetime | None = None) -> NewTask:
    """Make the task without asking the database.

    Raises:
        ActorUnknown, MessageNotEncodable, MessageTooLarge: As above.
    """
    broker = our_broker()
    try:
        actor = broker.get_actor(schedule.actor)
    except ActorNotFound:
        raise ActorUnknown(schedule.actor) from None
    message = actor.message_with_options(
        args=tuple(schedule.args), kwargs=schedule.kwargs, **_options(schedule, due_at)
    )
    if schedule.queue is not None:
        message = message.copy(queue_name=schedule.queue)
    return broker.encoded(with_own_keys(message, actor.options))


def _options(schedule: ScheduleRow | Definition, due_at: datetime | None) -> dict[str, Any]:
    options = dict(schedule.options) | {"schedule": schedule.name}
    if due_at is not None:
        options["due_at"] = due_at.isoformat()
    if schedule.tags:
        options["tags"] = schedule.tags
    if schedule.priority is not None:
        options["priority"] = schedule.priority
    if schedule.overlap in IN_ORDER:
        options["ordering_key"] = f"schedule:{schedule.name}"
    return options
