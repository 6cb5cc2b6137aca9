"""The actor that ``pipeline.actor`` makes: Dramatiq's, whose messages bring ids that suit an index.

A random id lands on another page of the index each time, and in PostgreSQL the first touch of a page after a checkpoint
writes the whole page to the log. An id that begins with the time lands beside the one before it. And since the id was
made here just now, nobody has to look whether the store knows it.
"""

from __future__ import annotations

import logging
import time
from os import urandom
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import dramatiq
from dramatiq import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

P = ParamSpec("P")
R = TypeVar("R")

#: Where a message keeps that its id is new: in the object that was made with it, not in copies.
_MARK = "_is_new"

#: The digit that says which kind of UUID it is, and holds two random bits.
_VARIANT = {digit: "89ab"[value % 4] for value, digit in enumerate("0123456789abcdef")}


class Actor(dramatiq.Actor[P, R]):
    """An actor whose messages have ids of UUID version 7 (RFC 9562): milliseconds, then 74 random bits."""

    def message_with_options(
        self, *, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Message[R]:
        """Build a message; see Dramatiq."""
        fields: dict[str, Any]
        if options:
            if isinstance(tags := options.get("tags"), set | frozenset):
                options["tags"] = list(tags)  # a chain writes its steps into each other, as JSON
            message = super().message_with_options(args=args, kwargs=kwargs, **options)
            fields = {"message_id": new_id(message.message_timestamp)}
        else:
            # As Message(...) makes it, which sets the fields of a frozen dataclass one by one.
            now_ms = time.time_ns() // 1_000_000
            message = Message.__new__(Message)
            fields = {
                "queue_name": self.queue_name,
                "actor_name": self.actor_name,
                "args": args if type(args) is tuple else tuple(args),
                "kwargs": kwargs or {},
                "options": {},
                "message_id": new_id(now_ms),
                "message_timestamp": now_ms,
            }
        fields[_MARK] = id(message)
        message.__dict__.update(fields)
        return message

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function. Dramatiq looks at the clock before and after, for a line that is hardly ever logged."""
        if self.logger.isEnabledFor(logging.DEBUG):
            return super().__call__(*args, **kwargs)
        return self.fn(*args, **kwargs)


def new_id(now_ms: int) -> str:
    """Make an id that begins with the time."""
    time_, chance = f"{now_ms:012x}", urandom(10).hex()
    return f"{time_[:8]}-{time_[8:]}-7{chance[1:4]}-{_VARIANT[chance[0]]}{chance[4:7]}-{chance[7:19]}"


def take_new(message: Message[Any]) -> bool:
    """Tell whether a message's id was made with it and is enqueued for the first time; the second time it is not."""
    marks: Mapping[str, Any] = message.__dict__
    return _MARK in marks and message.__dict__.pop(_MARK) == id(message)
