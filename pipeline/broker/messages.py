"""From Dramatiq's messages to what the store keeps, and back."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from dramatiq import Message
from dramatiq.encoder import Encoder, JSONEncoder
from dramatiq.message import get_encoder

from pipeline.broker import limits, time_limits
from pipeline.broker.keys import is_gated, keys_of
from pipeline.broker.labels import as_options, labels_of
from pipeline.context import CurrentTask, NewTask
from pipeline.errors import MessageNotEncodable, MessageTooLarge

#: What a smallint holds.
PRIORITIES = range(-32768, 32768)

#: How the payload of an adopted task begins: somebody may wait at the dramatiq-pg inbox for its result. ``read_inbox``
#: writes it, and the store keeps JSON as text, so one look at the beginning tells; other tasks do not pay for it.
_ADOPTED = '{"answer":true,'

#: What ``json.loads`` ends in.
_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # typeshed does not know it

#: What makes the encoder that ``json.dumps`` makes anew for each call, which takes as long as the writing itself.
#: None in a Python whose json has no such thing.
_make_encoder: Any = getattr(json.encoder, "c_make_encoder", None)

#: Writes as Dramatiq's own encoder does, in pieces. A circle ends as a RecursionError.
_pieces = _make_encoder and _make_encoder(
    None, json.JSONEncoder().default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)

#: JSON text that may hold what Python writes and PostgreSQL refuses: NUL, half of a surrogate pair, NaN, Infinity.
_SUSPICIOUS = re.compile(r"\\u0000|\\u[dD][89a-fA-F]|NaN|Infinity")
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def encode(
    message: Message[Any],
    priority: int,
    delay_ms: float | None,
    limit_bytes: int,
    declared: Mapping[str, Any] = MappingProxyType({}),
    *,
    is_new: bool = False,
    sent_by: CurrentTask | None = None,
) -> NewTask:
    """Make a message ready for the store; ``declared`` are the options of its actor, ``is_new`` is for the task.

    ``sent_by`` is the running task that sends it: its parent, whose correlation id it has unless it names one itself.

    Raises:
        MessageNotEncodable: It cannot be written as JSON that PostgreSQL accepts, or its id is no UUID, or its
            priority, delay or time limit no number that makes sense.
        MessageTooLarge: Its JSON is larger than ``limit_bytes``.
    """
    options = message.options
    keys = labels = parent = correlation_id = None
    if sent_by is not None:
        parent, correlation_id = sent_by.id, sent_by.correlation_id
    if options or declared or correlation_id is not None:
        if (complaint := time_limits.wrong(options)) is not None:
            raise MessageNotEncodable(f"The message for {message.actor_name}: {complaint}")
        keys = keys_of(message, declared)
        labels = labels_of(message, declared, keys or {}, correlation_id)
        options = as_options(options, labels)
    payload = encode_json(
        {
            "args": message.args,
            "kwargs": message.kwargs,
            "options": options,
            "message_timestamp": message.message_timestamp,
        },
        what=f"The message for {message.actor_name}",
        limit_bytes=limit_bytes,
    )
    return NewTask(  # by position: by name it takes three times as long
        message.message_id if is_new else _uuid(message.message_id),
        message.queue_name,
        _priority(message.options.get("priority", priority)),
        message.actor_name,
        None if delay_ms is None else whole_ms(delay_ms),
        payload,
        None if keys is None else json.dumps(keys),
        is_gated(keys) or not limits.OPTIONS.isdisjoint(declared),
        is_new,
        None if labels is None else json.dumps(labels),
        parent,
    )


def encode_json(value: Any, *, what: str, limit_bytes: int, encoder: Encoder | None = None) -> str:
    """Encode, with Dramatiq's global encoder if none is named, and check that PostgreSQL will take it."""
    encoder = encoder or get_encoder()
    try:
        if type(encoder) is JSONEncoder and _pieces is not None:
            text = "".join(_pieces(value, 0))  # nothing but ASCII
            size = len(text)
        else:
            encoded = encoder.encode(value)
            text, size = encoded.decode("utf-8"), len(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageNotEncodable(f"{what} cannot be written as JSON: {error}") from error
    if size > limit_bytes:
        raise MessageTooLarge(what, size, limit_bytes)
    # The regular expression takes ten times as long as a look for what it always finds.
    if ("\\u" in text or "NaN" in text or "Infinity" in text) and _SUSPICIOUS.search(text):
        _check_text(text, what)
    return text


def _check_text(text: str, what: str) -> None:
    """Refuse now what PostgreSQL would refuse later, in the middle of a batch or of somebody's transaction."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        plain = json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise MessageNotEncodable(f"{what} holds half of a surrogate pair, which is no text") from error
    except ValueError as error:
        raise MessageNotEncodable(f"{what} {error}") from error
    if re.search(rb"(?<!\\)(?:\\\\)*\\u0000", plain):
        raise MessageNotEncodable(f"{what} holds a NUL character, which PostgreSQL cannot store")


def _refuse_constant(name: str) -> None:
    message = f"holds {name}, which is no JSON"
    raise ValueError(message)


def _uuid(message_id: str) -> str:
    try:
        if _CANONICAL_UUID.fullmatch(message_id):
            return message_id
        return str(UUID(message_id))
    except (ValueError, AttributeError, TypeError) as error:
        raise MessageNotEncodable(f"The message id {message_id!r} is no UUID") from error


def whole_ms(delay: Any) -> int:
    """Make whole milliseconds of a delay.

    Raises:
        MessageNotEncodable: It is no number, or none that a calendar could hold.
    """
    try:
        whole: int = round(delay)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageNotEncodable(f"The delay {delay!r} is no number of milliseconds") from error
    return whole


def _priority(priority: Any) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise MessageNotEncodable(f"The priority {priority!r} is no whole number from -32768 to 32767")
    return priority


def as_json(tasks: list[NewTask]) -> str:
    """Write tasks as ``enqueue_many_v1`` reads them; payloads are JSON already and go in as they are.

    A message that stands there twice is one task, with what was sent last.
    """
    return "[" + ",".join(map(_as_json, {task.message_id: task for task in tasks}.values())) + "]"


def _as_json(task: NewTask) -> str:
    delay = "null" if task.delay_ms is None else task.delay_ms
    keys = "" if task.keys is None else f',"k":{task.keys}'
    labels = "" if task.labels is None else f',"l":{task.labels}'
    parent = "" if task.parent is None else f',"f":{task.parent}'
    return (
        f'{{"m":"{task.message_id}","q":{json.dumps(task.queue)},"p":{task.priority},'
        f'"a":{json.dumps(task.actor)},"d":{delay},"b":{task.payload}{keys}{labels}{parent}}}'
    )


def is_adopted(payload: str | None) -> bool:
    """Tell whether a task came from the inbox, or follows from one that did."""
    return payload is not None and payload.startswith(_ADOPTED)


def as_adopted(task: NewTask) -> NewTask:
    """Let a task's result be given to the inbox, too: a producer there waits for the end of its chain."""
    return replace(task, payload=_ADOPTED + task.payload[1:])


def decode(message_id: str, queue: str, actor: str, payload: str, patch: str | None) -> Message[Any]:
    """Make the message of a claimed task.

    Raises:
        Exception: The payload is not what an encoder of ours wrote (whatever the decoder raises).
    """
    fields = _decoded(payload)
    options = _expected(fields.get("options"), dict, "options")
    if patch:
        options |= _decoded(patch)
    if isinstance(options.get("throws"), str | list | dict):  # no exception class, and Dramatiq would die on it
        del options["throws"]
    # As Message(...) makes it, which sets the fields of a frozen dataclass one by one.
    message: Message[Any] = Message.__new__(Message)
    message.__dict__.update(
        queue_name=queue,
        actor_name=actor,
        args=tuple(_expected(fields.get("args"), list, "args")),
        kwargs=_expected(fields.get("kwargs"), dict, "kwargs"),
        options=options,
        message_id=message_id,
        message_timestamp=_expected(fields.get("message_timestamp"), int, "message_timestamp"),
    )
    return message


def _decoded(text: str) -> Any:
    """Decode with Dramatiq's global encoder; if that is JSON, without its way through bytes."""
    encoder = get_encoder()
    if type(encoder) is JSONEncoder:
        with suppress(StopIteration):  # that is how the scanner says that nothing begins here: let the encoder say it
            value, end = _scan(text, 0)
            if end == len(text):
                return value
    return encoder.decode(text.encode("utf-8"))


def _expected(value: Any, kind: type[Any], name: str) -> Any:
    """Return a field of a payload, an empty one if it is absent; no worker should trip over a row made by hand."""
    if value is None:
        return kind()
    if not isinstance(value, (tuple, list) if kind is list else kind):
        message = f"the payload's {name} are a {type(value).__name__}"
        raise TypeError(message)
    return value
