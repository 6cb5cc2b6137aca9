"""The labels of a message: by what people find its task.

Options of a message, each of them optional; None means without, whatever its actor is declared with:
    tags: A list, tuple or set of texts of 1 to 100 bytes. With those its actor is declared with, 20 at most.
    entity: What it is about, "invoice:4711" or ("invoice", 4711): 200 bytes at most.
    tenant: Whose task it is (see :mod:`pipeline.broker.keys`).
    correlation_id: What all tasks have in common that one cause has led to: 1 to 200 bytes. A running task hands its
        own on to what it sends.

An actor may be declared with tags, and with an entity or a function that makes it of the message's arguments. Labels
are written to the task's row as one JSON object; each tag is a row of its own, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pipeline.broker.keys import made, wrong_text
from pipeline.errors import MessageNotEncodable

if TYPE_CHECKING:
    from dramatiq import Message

MOST_TAGS = 20
TAG_BYTES = 100
ENTITY_BYTES = 200
CORRELATION_BYTES = 200
#: What an actor may be declared with besides its tenant.
DECLARED = frozenset({"tags", "entity"})
_OPTIONS = DECLARED | {"correlation_id"}


def labels_of(
    message: Message[Any], declared: Mapping[str, Any], keys: Mapping[str, Any], inherited: str | None
) -> dict[str, Any] | None:
    """Collect the labels of a message; None if it has none.

    Args:
        message: It.
        declared: The options of its actor.
        keys: As :func:`pipeline.broker.keys.keys_of` collects them; among them is its tenant.
        inherited: The correlation id of the task that sends it.

    Raises:
        MessageNotEncodable: One makes no sense, or cannot be made.
    """
    options, tenant = message.options, keys.get("tenant")
    if tenant is None and inherited is None and _OPTIONS.isdisjoint(options) and DECLARED.isdisjoint(declared):
        return None
    what = f"The message for {message.actor_name}"
    entity = options["entity"] if "entity" in options else made(declared.get("entity"), message, f"{what}: the entity")
    try:
        labels = {
            "tags": _all_tags(options.get("tags", ()), declared),
            "entity": None if entity is None else as_entity(entity),
            "tenant": tenant,
            "correlation_id": _correlation_id(options, inherited),
        }
    except _Wrong as wrong:
        raise MessageNotEncodable(f"{what}: {wrong}") from None
    return {name: label for name, label in labels.items() if label} or None


def as_options(options: dict[str, Any], labels: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write the options of a message so that they are JSON, and with the correlation id that it has inherited."""
    labels = labels or {}
    written = {name: labels.get(name, []) for name in DECLARED if options.get(name) is not None}
    if "correlation_id" in labels:
        written["correlation_id"] = labels["correlation_id"]
    return options | written if written else options


def wrong(options: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the labels an actor is declared with; None if nothing is."""
    entity = options.get("entity")
    try:
        as_tags(options.get("tags"))
        if entity is not None and not callable(entity):
            as_entity(entity)
    except _Wrong as complaint:
        return str(complaint)
    return None


class _Wrong(Exception):
    """What is wrong with a label."""


def as_tags(tags: Any) -> list[str]:
    """Check tags and put them in order, each once; None is none at all."""
    if tags is None:
        return []
    if not isinstance(tags, list | tuple | set | frozenset):
        told = f"tags is a {type(tags).__name__}, not a list of texts"
        raise _Wrong(told)
    for tag in tags:
        _check("tag", tag, TAG_BYTES)
    if len(different := sorted(set(tags))) > MOST_TAGS:
        told = f"there are {len(different)} tags; {MOST_TAGS} are allowed"
        raise _Wrong(told)
    return different


def as_entity(entity: Any) -> str:
    """Write an entity as text, and check it."""
    if isinstance(entity, list | tuple):
        entity = _of_pair(*entity) if len(entity) == 2 else None
    elif isinstance(entity, str) and not all(entity.partition(":")):
        entity = None
    if entity is None:
        raise _Wrong('the entity has the form "kind:id" or ("kind", id), neither of them empty')
    _check("entity", entity, ENTITY_BYTES)
    return str(entity)


def _of_pair(kind: Any, id: Any) -> str | None:
    is_id = isinstance(id, str | int | UUID) and not isinstance(id, bool)
    if not isinstance(kind, str) or not kind or ":" in kind or not is_id or id == "":
        return None
    return f"{kind}:{id}"


def _all_tags(own: Any, declared: Mapping[str, Any]) -> list[str]:
    """Add those that the actor is declared with, unless the message says that it has none."""
    if own is None or not declared.get("tags"):
        return as_tags(own)
    return as_tags(as_tags(own) + as_tags(declared["tags"]))


def _correlation_id(options: Mapping[str, Any], inherited: str | None) -> str | None:
    own: str | None = options.get("correlation_id")
    if own is not None:
        _check("correlation_id", own, CORRELATION_BYTES)
        return own
    if "correlation_id" in options or wrong_text("", inherited, CORRELATION_BYTES):
        return None  # what came from another system may be anything
    return inherited


def _check(name: str, text: Any, most_bytes: int) -> None:
    complaint = wrong_text(name, text, most_bytes)
    if complaint is not None:
        raise _Wrong(complaint)
