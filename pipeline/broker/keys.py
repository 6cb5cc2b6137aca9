"""The keys of a message: what it asks for beyond its place in a lane.

Options of a message, each of them optional:
    unique_key: Held while the task waits or runs: nobody else's message with this key becomes a task meanwhile.
    idempotency_key: The same, and held for a while after the task has ended.
    idempotency_window: That while, in milliseconds; a day by default.
    on_conflict: What becomes of a message whose key is held: "skip" (default), "replace" or "error".

They stay in the message, so that a worker knows whether a run's end has anything to let go, and are written to the
task's row as one JSON object.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.errors import MessageNotEncodable

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES = 512
_KEYS = ("unique_key", "idempotency_key")
_ON_CONFLICT = ("skip", "replace", "error")
_DAY_MS = 24 * 3600 * 1000
#: A thousand years; what a calendar can hold.
_LONGEST_MS = 1000 * 365 * _DAY_MS


def keys_of(options: Mapping[str, Any], *, what: str) -> str | None:
    """Collect the keys of a message as JSON; None if it has none.

    Raises:
        MessageNotEncodable: A key is no text of 1 to 512 bytes, or what is said about it makes no sense.
    """
    keys: dict[str, Any] = {name: options[name] for name in _KEYS if options.get(name) is not None}
    if not keys:
        return None
    complaint = next((_wrong(name, key) for name, key in keys.items() if _wrong(name, key)), None)
    window = options.get("idempotency_window")
    on_conflict = options.get("on_conflict")
    complaint = complaint or _wrong_window(window) or _wrong_conflict(on_conflict)
    if complaint is not None:
        raise MessageNotEncodable(f"{what}: {complaint}")
    if "idempotency_key" in keys:
        keys["window_ms"] = _DAY_MS if window is None else round(window)
    if on_conflict is not None:
        keys["on_conflict"] = on_conflict
    return json.dumps(keys)


def has_keys(options: Mapping[str, Any]) -> bool:
    """Tell whether the end of a task has something to let go."""
    return options.get("unique_key") is not None or options.get("idempotency_key") is not None


def _wrong(name: str, key: Any) -> str | None:
    if not isinstance(key, str):
        return f"the {name} is a {type(key).__name__}, not a text"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return f"the {name} holds half of a surrogate pair, which is no text"
    if not 0 < size <= KEY_BYTES:
        return f"the {name} has {size} bytes; 1 to {KEY_BYTES} are allowed"
    return f"the {name} holds a NUL character, which PostgreSQL cannot store" if "\0" in key else None


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
