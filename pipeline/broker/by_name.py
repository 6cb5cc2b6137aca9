"""Sends to actors that the sender knows by their names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dramatiq import Message

from pipeline.broker.placing import standing, with_own_keys
from pipeline.broker.sender import in_our_words
from pipeline.broker.signatures import signature_of

if TYPE_CHECKING:
    from pipeline.broker.broker import PostgresBroker
    from pipeline.store.actors import ActorRow


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be sent, and to whom."""

    actor: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: None: the actor's, also for the priority.
    queue: str | None = None
    priority: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def message_of(broker: PostgresBroker, letter: Letter, announced: ActorRow | None, message_id: str) -> Message[Any]:
    """Make the message.

    Of an actor that this process has not, only its queue and its priority are known: what else it is declared with
    that decides about messages (keys, tags, an entity) does not hold.

    Args:
        broker: The broker.
        letter: What is to be sent.
        announced: What workers have announced of the actor; not needed if this process has it.
        message_id: Made for this message just now.
    """
    args, kwargs, options = tuple(letter.args), dict(letter.kwargs), dict(letter.options)
    if letter.priority is not None:
        options["priority"] = letter.priority
    actor = broker.actors.get(letter.actor)
    if actor is not None:
        message = actor.message_with_options(args=args, kwargs=kwargs, **options)
        placed: Message[Any] = message.copy(message_id=message_id, queue_name=letter.queue or actor.queue_name)
        return placed
    assert announced is not None  # noqa: S101 - somebody has to know it
    options.setdefault("priority", announced.priority)
    return Message(letter.queue or announced.queue, letter.actor, args, kwargs, options, message_id)


def send(
    broker: PostgresBroker,
    message: Message[Any],
    *,
    delay_ms: float | None = None,
    is_gated: bool = False,
    target: Any,
) -> Message[Any]:
    """Enqueue it in the caller's transaction, as ``broker.enqueue`` would, also to a queue that is not declared here.

    Args:
        broker: The broker.
        message: As :func:`message_of` makes it.
        delay_ms: When it is due; by default at once.
        is_gated: Whether its actor has limits, if this process has not the actor.
        target: The transaction.

    Returns:
        The message; if another task has its key and stands for it, with that one's id.

    Raises:
        MessageNotEncodable: It cannot be written as JSON that PostgreSQL accepts.
        MessageTooLarge: It is larger than the limit.
        DuplicateTask: Another task has its key, and ``on_conflict`` is "error".
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    actor = broker.actors.get(message.actor_name)
    if actor is not None:
        message = with_own_keys(message, actor.options)
    broker.emit_before("enqueue", message, delay_ms)
    new = broker.encoded(message, delay_ms)
    new = replace(new, is_new=True, is_gated=new.is_gated or is_gated)
    with broker.enlist(target), in_our_words():
        placed = standing(message, broker.place((new,)))
    broker.emit_after("enqueue", placed, delay_ms)
    return placed


def wrong_arguments(broker: PostgresBroker, letter: Letter) -> str | None:
    """Say why an actor of this process cannot be called so; None if it can, or is not known here."""
    actor = broker.actors.get(letter.actor)
    if actor is None:
        return None
    try:
        signature_of(actor.fn).bind(*letter.args, **letter.kwargs)
    except TypeError as error:
        return str(error)
    return None
