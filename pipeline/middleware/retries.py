"""Retries: when a failed task runs again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dramatiq.errors import Retry
from dramatiq.middleware import Retries as DramatiqRetries
from dramatiq.middleware import Shutdown
from dramatiq.middleware.retries import DEFAULT_MAX_BACKOFF, DEFAULT_MIN_BACKOFF

from pipeline.context import NextRun
from pipeline.errors import Cancelled, Snoozed
from pipeline.logger import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a task waits before its next run: ``min_ms`` doubled with each retry, ``max_ms`` at most.

    With jitter it is a random time between half of that and all of it, so that what failed together does not come
    back together.
    """

    min_ms: int = DEFAULT_MIN_BACKOFF
    max_ms: int = DEFAULT_MAX_BACKOFF
    jitter: bool = True
    #: None: what the actor says.
    max_retries: int | None = None

    def delay_ms(self, retries: int) -> int:
        """Milliseconds before the run that follows ``retries`` earlier retries."""
        full: int = min(self.min_ms * 2 ** min(retries, 32), self.max_ms, DEFAULT_MAX_BACKOFF)
        return round(random.uniform(full / 2, full)) if self.jitter else full  # noqa: S311


class Retries(DramatiqRetries):
    """Dramatiq's Retries, whose retry is part of the run's outcome, with a backoff per exception.

    Further actor options:
        jitter: False for exact delays (``min_backoff`` doubled each time).
        retry_for: A mapping of exception classes to :class:`Backoff`, or to None for those that are never retried. The
            first class that the exception is an instance of counts.

    The attempt's error and traceback are kept with the attempt, not in the message.
    """

    def __init__(
        self,
        *,
        max_retries: int = 20,
        min_backoff: int | None = None,
        max_backoff: int | None = None,
        retry_when: Callable[[int, BaseException], bool] | None = None,
    ) -> None:
        super().__init__(
            max_retries=max_retries, min_backoff=min_backoff, max_backoff=max_backoff, retry_when=retry_when
        )

    @property
    def actor_options(self) -> set[str]:
        """Options an actor may be declared with."""
        return {*super().actor_options, "jitter", "retry_for"}

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        """Decide whether the task runs again, fails, or goes back uncounted."""
        if exception is None:
            return
        if isinstance(exception, Shutdown):
            message.task.capture.next_run = NextRun(0, _kept_options(message), is_counted=False)
            return
        if isinstance(exception, Snoozed):
            message.task.capture.next_run = NextRun(exception.delay, _kept_options(message), is_counted=False)
            return
        if isinstance(exception, Cancelled):
            message.fail()
            return
        options = {**broker.get_actor(message.actor_name).options, **message.options}
        policy = self._policy(options, exception)
        if policy is None:
            message.fail()
            return
        retries = message.options.get("retries", 0)
        message.options["retries"] = retries + 1
        if self._is_exhausted(options, policy, retries, exception):
            self._give_up(broker, message, options, retries)
            return
        message.task.capture.next_run = NextRun(_delay_ms(policy, retries, exception), _kept_options(message))

    def will_retry(self, broker: Any, message: Any, exception: BaseException) -> bool:
        """Tell whether a task that runs would run again if its actor raised this now."""
        options = {**broker.get_actor(message.actor_name).options, **message.options}
        policy = self._policy(options, exception)
        retries = message.options.get("retries", 0)
        return policy is not None and not self._is_exhausted(options, policy, retries, exception)

    def _policy(self, options: Mapping[str, Any], exception: BaseException) -> Backoff | None:
        """Choose the backoff for an exception; None if it is never retried."""
        throws = options.get("throws")
        if throws and isinstance(exception, throws):
            return None
        for kind, policy in (options.get("retry_for") or {}).items():
            if isinstance(exception, kind):
                return policy  # type: ignore[no-any-return]
        return Backoff(
            min_ms=options.get("min_backoff") or self.min_backoff,
            max_ms=options.get("max_backoff") or self.max_backoff,
            jitter=options.get("jitter", True),
        )

    def _is_exhausted(
        self, options: Mapping[str, Any], policy: Backoff, retries: int, exception: BaseException
    ) -> bool:
        retry_when = options.get("retry_when", self.retry_when)
        if retry_when is not None:
            return not retry_when(retries, exception)
        most = policy.max_retries if policy.max_retries is not None else options.get("max_retries", self.max_retries)
        return most is not None and retries >= most

    def _give_up(self, broker: Any, message: Any, options: Mapping[str, Any], retries: int) -> None:
        message.fail()
        target = options.get("on_retry_exhausted")
        if target:
            most = options.get("max_retries", self.max_retries)
            broker.get_actor(target).send(message.asdict(), {"retries": retries, "max_retries": most})


def _delay_ms(policy: Backoff, retries: int, exception: BaseException) -> int:
    if isinstance(exception, Retry) and exception.delay is not None:
        return int(exception.delay)
    return policy.delay_ms(retries)


def _kept_options(message: Any) -> dict[str, Any]:
    """Choose the options that the next run starts with: those that changed."""
    return {key: value for key, value in message.options.items() if key == "retries"}
