"""A new message out of an old one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dramatiq import Message

from pipeline.broker import labels
from pipeline.broker.keys import KEYS, gate_keys
from pipeline.broker.messages import decode, encode, whole_ms
from pipeline.broker.placing import with_own_keys
from pipeline.errors import MessageNotEncodable

if TYPE_CHECKING:
    from pipeline.broker.broker import PostgresBroker
    from pipeline.context import NewTask
    from pipeline.store.tasks import StoredMessage

#: What belongs to the old task's life, to its place in a group, or to it alone.
_NOT_COPIED = frozenset(
    {
        "retries",
        "traceback",
        "verdict",
        "priority",
        "group_completion_uuid",
        "group_completion_callbacks",
        "idempotency_key",
        "idempotency_window",
        "idempotency_digest",
    }
)


@dataclass(frozen=True, slots=True)
class Changes:
    """In what a clone differs; None: in nothing."""

    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    priority: int | None = None
    delay_ms: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Made before the first attempt, so that repeating it after a lost reply makes no second clone.
    message_id: str = field(default_factory=lambda: str(uuid4()))


def clone_of(broker: PostgresBroker, stored: StoredMessage, changes: Changes) -> NewTask:
    """Make the message of a clone, as if it were sent: with the hooks of the middleware and within the same limits.

    A key that is held is an error unless ``on_conflict`` says otherwise: a clone is meant to run.

    Raises:
        MessageNotEncodable: The old message cannot be read, or the new one not be written.
        MessageTooLarge: The new one is larger than the limit.
    """
    old = _decoded(stored)
    kept = {name: value for name, value in old.options.items() if name not in _NOT_COPIED}
    actor = broker.actors.get(stored.actor)
    for name in (KEYS | labels.DECLARED).intersection(kept) if actor is not None else ():
        if callable(actor.options.get(name)):
            del kept[name]  # computed anew
    message: Message[Any] = Message(
        queue_name=changes.queue or stored.queue,
        actor_name=stored.actor,
        args=old.args if changes.args is None else tuple(changes.args),
        kwargs=old.kwargs if changes.kwargs is None else dict(changes.kwargs),
        options=kept | {"on_conflict": "error"} | dict(changes.options),
        message_id=changes.message_id,
    )
    if actor is not None:
        message = with_own_keys(message, actor.options)
    broker.emit_before("enqueue", message, changes.delay_ms)
    priority = stored.priority if changes.priority is None else changes.priority
    delay = None if changes.delay_ms is None else whole_ms(changes.delay_ms)
    new = encode(message, priority, delay, broker.settings.message_limit_bytes, {} if actor is None else actor.options)
    if actor is None and stored.keys is not None:  # nobody here knows how its gates are made of its arguments
        new = replace(new, keys=json.dumps(gate_keys(json.loads(stored.keys)) | json.loads(new.keys or "{}")))
    if actor is None and stored.labels is not None:
        kept_labels = {name: label for name, label in json.loads(stored.labels).items() if name not in changes.options}
        new = replace(new, labels=json.dumps(kept_labels | json.loads(new.labels or "{}")))
    broker.sender.ensure_lanes([(new.queue, new.priority, new.is_gated or stored.is_gated)])
    return new


def _decoded(stored: StoredMessage) -> Message[Any]:
    try:
        return decode("", stored.queue, stored.actor, stored.payload, None)
    except Exception as error:
        raise MessageNotEncodable(f"The message of the task for {stored.actor} cannot be read: {error}") from error
