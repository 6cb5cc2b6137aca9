"""What groups and chains are made of; and ``group.run()`` made atomic: all members are enqueued or none.

Dramatiq enqueues the members of a group one by one, and has no hook around that. So its method is wrapped, once, and
only brokers of ours behave differently. (A pipeline enqueues only its first step, which is atomic by itself.)
"""

from __future__ import annotations

import functools
from typing import Any

from dramatiq import Message
from dramatiq.composition import group, pipeline

from pipeline.broker.broker import PostgresBroker
from pipeline.context import forming
from pipeline.store.tasks import as_task_id

_run: Any = group.run


@functools.wraps(_run)
def _run_atomically(self: group, *, delay: int | None = None) -> group:
    if isinstance(self.broker, PostgresBroker):
        with forming(message_ids(self)), self.broker.atomic():
            _run(self, delay=delay)
    else:
        _run(self, delay=delay)
    return self


def message_ids(what: Message[Any] | group | pipeline) -> list[str]:
    """List the ids of the messages that something is made of, a chain's in their order."""
    if isinstance(what, Message):
        return [known] if (known := as_task_id(what.message_id)) else []
    parts = what.children if isinstance(what, group) else what.messages
    return [each for part in parts for each in message_ids(part)]


def install() -> None:
    """Wrap the method; calling again changes nothing."""
    cls: Any = group
    cls.run = _run_atomically
