"""Completion callbacks of groups, counted in the store."""

from __future__ import annotations

from typing import Any

from dramatiq import Message
from dramatiq.middleware import GroupCallbacks as DramatiqGroupCallbacks

from pipeline.context import GroupMember, forming_group


class GroupCallbacks(DramatiqGroupCallbacks):
    """Each member counts once, by its id, in the transaction of its outcome.

    Dramatiq's own counts a member twice that ran twice, and forgets a group after a day.
    """

    def __init__(self, broker: Any) -> None:
        super().__init__(_GroupMaker(broker))

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        """Let a success count towards its group."""
        group_id = message.options.get("group_completion_uuid")
        callbacks = message.options.get("group_completion_callbacks")
        if exception is None and group_id and callbacks:
            encoded = [broker.encoded(Message(**callback)) for callback in callbacks]
            broker.sender.ensure_lanes(each.lane for each in encoded)
            message.task.capture.group = GroupMember(group_id, encoded)


class _GroupMaker:
    """What ``group.run()`` takes for a rate limiter backend: it makes a barrier there, for us it is a group."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Make a group of ``value`` members."""
        self._broker.sender.create_group(key, value, forming_group())
        return True
