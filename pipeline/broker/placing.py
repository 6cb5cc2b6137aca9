"""What becomes of a send before it is a row: the key it gets, what collects it, and the message that stands for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.broker.keys import declared_keys
from pipeline.context import NextRun
from pipeline.errors import DuplicateTask
from pipeline.text import clean

if TYPE_CHECKING:
    from dramatiq import Message

    from pipeline.context import CurrentTask, NewTask, Standing


def with_own_keys(message: Message[Any], declared: Mapping[str, Any]) -> Message[Any]:
    """Write into a message the keys that its actor was declared with, unless it brings its own (None: no key).

    So a worker knows whether a run's end has anything to let go. The keys of gates need not stand there.
    """
    options = declared_keys(message, declared)
    if not options:
        return message
    if declared.get("on_conflict") is not None and "on_conflict" not in message.options:
        options["on_conflict"] = declared["on_conflict"]
    return message.copy(options=options)


def standing(message: Message[Any], others: Standing) -> Message[Any]:
    """Return a message as it was placed: with the id of the task that stands for it, if that is another one."""
    other = others.get(message.message_id)
    return message if other is None else message.copy(message_id=other)


def stood_for(task: NewTask, message_id: str) -> Standing:
    """Tell what the store said about one send.

    Raises:
        DuplicateTask: Another task has the key, and that is an error.
    """
    if message_id == task.message_id:
        return {}
    keys = json.loads(task.keys or "{}")
    if keys.get("on_conflict") == "error":
        held = [keys[name] for name in ("unique_key", "idempotency_key") if name in keys]
        raise DuplicateTask(" or ".join(held), message_id)
    return {task.message_id: message_id}


def run_again(task: CurrentTask, delay_ms: int, options: dict[str, Any]) -> None:
    """Let the run end in another one, which is what enqueueing the running task's own message means."""
    patch = {
        key: clean(value) if isinstance(value, str) else value  # Dramatiq's Retries put the traceback there
        for key, value in options.items()
        if task.options.get(key, task) != value
    }
    next_run = NextRun(delay_ms, patch)
    if task.capture is not None:
        task.capture.next_run = next_run
    else:
        task.next_run = next_run
