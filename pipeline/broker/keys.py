"""The keys of a message: what it asks for beyond its place in a lane.

Options of a message, each of them optional:
    unique_key: Held while the task waits or runs: nobody else's message with this key becomes a task meanwhile.
    idempotency_key: The same, and held for a while after the task has ended.
    idempotency_window: That while, in milliseconds; a day by default.
    idempotency_digest: Of whoever compares what was sent with a key before with what is sent now; only kept.
    on_conflict: What becomes of a message whose key is held: "skip" (default), "replace" or "error".
    concurrency_key: No more tasks with this key run at a time than ``max_running_per_key`` of their actor.
    rate_key: The ``rate_limit`` of the actor holds for the tasks with this key together.
    ordering_key: Of the tasks with this key, one runs at a time, in the order in which they were sent.
    fairness_key: Tasks with different keys take turns, however many there are of one.
    tenant: Whose task it is, so that what a tenant has waiting can be paused.

An actor may be declared with those of them that are keys: with a text, or with a function that makes the key of the
message's arguments. They are written to the task's row as one JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import MessageNotEncodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dramatiq import Message

KEY_BYTES = 512
#: Those for whose sake a task is looked at when it is claimed.
_GATES = frozenset({"concurrency_key", "rate_key", "ordering_key", "fairness_key", "tenant"})
#: Those that one task has at a time.
UNIQUE = frozenset({"unique_key", "idempotency_key"})
KEYS = UNIQUE | _GATES
_ON_CONFLICT = ("skip", "replace", "error")
_DAY_MS = 24 * 3600 * 1000
#: A thousand years; what a calendar can hold.
_LONGEST_MS = 1000 * 365 * _DAY_MS


def keys_of(message: Message[Any], declared: Mapping[str, Any]) -> dict[str, Any] | None:
    """Collect the keys of a message, its own first, then those its actor is declared with; None if it has none.

    Raises:
        MessageNotEncodable: A key is no text of 1 to 512 bytes or cannot be made, or what is said about it makes no
            sense.
    """
    options = message.options
    if KEYS.isdisjoint(options) and KEYS.isdisjoint(declared):
        return None
    what = f"The message for {message.actor_name}"
    keys = _collected(message, declared, what)
    if not keys:
        return None
    complaint = next((complaint for name, key in keys.items() if (complaint := wrong_text(name, key))), None)
    window = options.get("idempotency_window")
    on_conflict = options.get("on_conflict")
    complaint = complaint or _wrong_window(window) or _wrong_conflict(on_conflict)
    if options.get("group_completion_uuid") is not None and not UNIQUE.isdisjoint(keys):
        complaint = "a member of a group with completion callbacks cannot give way to another task, so it has no key"
    if complaint is not None:
        raise MessageNotEncodable(f"{what}: {complaint}")
    if "idempotency_key" in keys:
        keys["window_ms"] = _DAY_MS if window is None else round(window)
    if on_conflict is not None:
        keys["on_conflict"] = on_conflict
    return keys


def _collected(message: Message[Any], declared: Mapping[str, Any], what: str) -> dict[str, Any]:
    keys = {}
    for name in sorted(KEYS):
        key = message.options.get(name)
        if key is None and declared.get(name) is not None and not (name in UNIQUE and name in message.options):
            key = made(declared[name], message, f"{what}: the {name}")
        if key is not None:
            keys[name] = key
    return keys


def declared_keys(message: Message[Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Make those keys of a message that one task has at a time and that its actor is declared with.

    Raises:
        MessageNotEncodable: One cannot be made.
    """
    if UNIQUE.isdisjoint(declared):
        return {}
    names = [name for name in sorted(UNIQUE) if declared.get(name) is not None and name not in message.options]
    what = f"The message for {message.actor_name}: the"
    return {name: made(declared[name], message, f"{what} {name}") for name in names}


def gate_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Choose those keys for whose sake a task is looked at when it is claimed."""
    return {name: key for name, key in keys.items() if name in _GATES}


def holds_keys(options: Mapping[str, Any]) -> bool:
    """Tell whether the end of a task has a key to let go."""
    return options.get("unique_key") is not None or options.get("idempotency_key") is not None


def is_gated(keys: Mapping[str, Any] | None) -> bool:
    """Tell whether a task with these keys has to be looked at when it is claimed."""
    return keys is not None and not _GATES.isdisjoint(keys)


def wrong(options: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the keys an actor is declared with; None if nothing is."""
    for name in sorted(KEYS & options.keys()):
        key = options[name]
        if key is not None and not callable(key) and (complaint := wrong_text(name, key)) is not None:
            return complaint
    return None


def made(key: Any, message: Message[Any], what: str) -> Any:
    """Make what an actor is declared with of a message's arguments, if it is a function of them.

    Raises:
        MessageNotEncodable: It cannot be made.
    """
    if not callable(key):
        return key
    try:
        return key(*message.args, **message.kwargs)
    except Exception as error:
        raise MessageNotEncodable(f"{what} cannot be made of its arguments: {error!r}") from error


def wrong_text(name: str, text: Any, most_bytes: int = KEY_BYTES) -> str | None:
    """Say what is wrong with what should be a short text; None if nothing is."""
    if not isinstance(text, str):
        return f"the {name} is a {type(text).__name__}, not a text"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"the {name} holds half of a surrogate pair, which is no text"
    if not 0 < size <= most_bytes:
        return f"the {name} has {size} bytes; 1 to {most_bytes} are allowed"
    return f"the {name} holds a NUL character, which PostgreSQL cannot store" if "\0" in text else None


def _wrong_window(window: Any) -> str | None:
    if window is None:
        return None
    is_number = isinstance(window, int | float) and not isinstance(window, bool)
    if is_number and 0 < window <= _LONGEST_MS:
        return None
    return f"the idempotency_window {window!r} is no number of milliseconds above 0"


def _wrong_conflict(on_conflict: Any) -> str | None:
    if on_conflict is None or on_conflict in _ON_CONFLICT:
        return None
    return f"on_conflict is {' or '.join(map(repr, _ON_CONFLICT))}, not {on_conflict!r}"
