"""The soft time limit: an exception in the task, which can clean up."""

from __future__ import annotations

from typing import Any

from dramatiq.middleware import Middleware

#: 59 minutes.
DEFAULT_TIME_LIMIT_MS = 3_540_000


class TimeLimit(Middleware):
    """Raises TimeLimitExceeded in a task that runs too long; looks once a second.

    Args:
        time_limit: Milliseconds, for actors and messages without a ``time_limit`` of their own.
    """

    def __init__(self, *, time_limit: float = DEFAULT_TIME_LIMIT_MS) -> None:
        self.time_limit = time_limit

    @property
    def actor_options(self) -> set[str]:
        """Options an actor may be declared with."""
        return {"time_limit"}

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Note until when the task may run."""
        actor = broker.get_actor(message.actor_name)
        limit = message.options.get("time_limit") or actor.options.get("time_limit", self.time_limit)
        if limit != float("inf"):
            broker.interrupter.limit(message.task, limit / 1000)
