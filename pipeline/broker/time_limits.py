"""How long a run may take: checked where it is said, looked up where it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

#: Milliseconds after which an exception is raised in the task, and after which its process is killed.
OPTIONS = ("time_limit", "hard_time_limit")

#: How much later than its soft limit a run is killed, where that is all that was said.
_GRACE_SECONDS = 60.0


def wrong(options: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the limits among an actor's or a message's options; None if nothing is."""
    said = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    for name, value in said.items():
        if not _is_limit(value):
            return f"the {name} {value!r} is no number of milliseconds above 0"
    if len(said) == len(OPTIONS) and said["hard_time_limit"] < said["time_limit"]:
        return f"the hard_time_limit {said['hard_time_limit']} is below the time_limit {said['time_limit']}"
    return None


def hard_limit_seconds(message: Mapping[str, Any], actor: Mapping[str, Any], default: float) -> float:
    """Tell how many seconds a run may take at most: as its message says, else its actor, else the default.

    A default of 0 is for ever. Whoever gives a task more time softly than the default allows means more time, not an
    early end. What is no limit is passed over: a row made by hand must not harm the thread that runs it.
    """
    for options in (message, actor):
        if _is_limit(hard := options.get("hard_time_limit")):
            return hard / 1000
    default = default or float("inf")
    for options in (message, actor):
        if _is_limit(soft := options.get("time_limit")):
            return max(default, soft / 1000 + _GRACE_SECONDS)
    return default


def _is_limit(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
