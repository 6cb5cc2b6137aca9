"""How runs ended, and how a batch of them is written."""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
from dramatiq.errors import Retry
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from psycopg2.errorcodes import LOCK_NOT_AVAILABLE

from pipeline.broker.keys import holds_keys
from pipeline.broker.messages import as_json, encode_json
from pipeline.errors import HardTimeLimitExceeded, Snoozed
from pipeline.states import Outcome
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.broker.consumer import TaskProxy
    from pipeline.context import Capture

#: Frames and characters of a traceback that are kept with an attempt.
_TRACEBACK_FRAMES = 30
_TRACEBACK_CHARACTERS = 16_384
_MESSAGE_CHARACTERS = 2_000
#: The message option that a run finds whose predecessor was killed: it ends with that error and does not start.
VERDICT_TIME_LIMIT = "time_limit"
#: SQLSTATE classes that one row of a batch can cause: data, constraints, limits.
_POISON_CLASSES = frozenset({"22", "23", "54"})
#: Exceptions that say by themselves why a run ended.
_REASONS = {
    TimeLimitExceeded: "time_limit",
    HardTimeLimitExceeded: "time_limit",
    Shutdown: "shutdown",
    Snoozed: "snoozed",
}


@dataclass(slots=True, eq=False)
class Conclusion:
    """The outcome of one run and all that is written with it."""

    proxy: TaskProxy
    outcome: Outcome
    finished_at: float = field(default_factory=time.monotonic)
    #: Epoch of the next run's eta, where it is the one the run was claimed with.
    next_eta: float | None = None
    #: What ``conclude_runs`` reads besides the plain columns, as JSON.
    extra: str | None = None
    #: For how long the result is kept, if it is None and nothing else is to be said about it.
    ttl_ms: int | None = None
    #: Whether something follows from it: a next run, messages, a group.
    has_follow: bool = False

    @property
    def attempt(self) -> int:
        """The attempts counted so far, this one included if it counts."""
        return self.proxy.attempt - (not self.outcome.is_counted)


def concluded(proxy: TaskProxy, outcome: Outcome, capture: Capture | None = None, error: Any = None) -> Conclusion:
    """Put together what a run's hooks asked for."""
    conclusion = Conclusion(proxy, outcome)
    if capture is not None and _has_plain_result(capture, proxy):
        conclusion.ttl_ms, capture.result = capture.result.ttl_ms, None  # type: ignore[union-attr]
    conclusion.extra = encode_extra(capture, error, proxy)
    # What is to be let go, and an adopted task's answer, are looked for among what follows, so that no other batch is
    # searched for them.
    conclusion.has_follow = proxy.is_gated or holds_keys(proxy.options)
    if capture is not None and not conclusion.has_follow:
        conclusion.has_follow = bool(capture.next_run or capture.sends or capture.group or proxy.inbox)
    return conclusion


def _has_plain_result(capture: Capture, proxy: TaskProxy) -> bool:
    """Tell whether a result is None, as most are, and goes to the store, to nobody else."""
    return capture.result is not None and capture.result.json is None and proxy.inbox is None


def given_back(proxy: TaskProxy) -> Conclusion:
    """Let a run that did not start, or did not end, wait again in its old place."""
    extra = encode_extra(None, None, proxy)
    return Conclusion(proxy, Outcome.INTERRUPTED, next_eta=proxy.eta, extra=extra, has_follow=True)


def lost(proxy: TaskProxy, max_losses: int) -> Conclusion:
    """Let a run whose thread is gone run again, unless that has happened to its task ``max_losses`` times."""
    extra = json.dumps({"max_losses": max_losses, "keys": True} | ({"gated": True} if proxy.is_gated else {}))
    return Conclusion(proxy, Outcome.LOST, next_eta=proxy.eta, extra=extra, has_follow=True)


def refused(proxy: TaskProxy, error: Exception) -> Conclusion:
    """Fail a run that nobody can do, or whose outcome PostgreSQL does not take."""
    conclusion = concluded(proxy, Outcome.FAILED)
    # Its message may be unreadable: then nobody knows here whether it has keys.
    conclusion.extra = encode_extra(None, describe(error, "refused"), proxy, holds_keys_perhaps=True)
    conclusion.has_follow = True
    return conclusion


def may_be_of_one(error: psycopg2.Error) -> bool:
    """Tell whether one outcome of a batch may be what PostgreSQL refused: for its data, or a row that is locked."""
    return (error.pgcode or "")[:2] in _POISON_CLASSES or error.pgcode == LOCK_NOT_AVAILABLE


def encode_extra(
    capture: Capture | None,
    error: dict[str, Any] | None,
    proxy: TaskProxy | None = None,
    *,
    holds_keys_perhaps: bool = False,
) -> str | None:
    """Write the parts that most runs do not have; None if this one has none of them."""
    parts: list[str] = []
    if proxy is not None and proxy.inbox is not None:
        parts.append(f'"answer":{json.dumps(proxy.inbox)}')
    if proxy is not None and proxy.is_gated:
        parts.append('"gated":true')
    if holds_keys_perhaps or (proxy is not None and holds_keys(proxy.options)):
        parts.append('"keys":true')
    if error is not None:
        parts.append(f'"error":{json.dumps(error)}')
    if capture is not None:
        parts += _captured(capture)
    return "{" + ",".join(parts) + "}" if parts else None


def _captured(capture: Capture) -> list[str]:
    parts: list[str] = []
    if capture.result is not None:
        parts.append(f'"ttl":{capture.result.ttl_ms}')
        if capture.result.json is not None:
            parts.append(f'"result":{capture.result.json}')
    if capture.next_run is not None:
        parts.append(f'"delay":{round(capture.next_run.delay_ms)},"patch":{_encode_patch(capture.next_run.patch)}')
    if capture.sends:
        parts.append(f'"enqueue":{as_json(capture.sends)}')
    if capture.group is not None:
        callbacks = as_json(capture.group.callbacks)
        parts.append(f'"group":{{"id":{json.dumps(capture.group.group_id)},"callbacks":{callbacks}}}')
    return parts


def _encode_patch(patch: dict[str, Any]) -> str:
    return encode_json(patch, what="What the next run starts with", limit_bytes=sys.maxsize)


def describe(error: BaseException, reason: str = "error") -> dict[str, str]:
    """Make of an exception what people read in the attempt's history; of a Retry, what it was raised for."""
    if isinstance(error, Retry) and error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.format_exception(type(error), error, error.__traceback__, limit=_TRACEBACK_FRAMES)
    return {
        "type": type(error).__name__,
        "message": text_of(error)[:_MESSAGE_CHARACTERS],
        "traceback": clean("".join(frames))[-_TRACEBACK_CHARACTERS:],
        "reason": next((told for kind, told in _REASONS.items() if isinstance(error, kind)), reason),
    }


def text_of(error: BaseException) -> str:
    """Return an exception's text; it may have none that can be made, or stored."""
    try:
        return clean(str(error))
    except Exception as broken:  # noqa: BLE001 - whatever its __str__ raises
        return f"(its text cannot be made: {type(broken).__name__})"


def as_arguments(batch: Sequence[Conclusion]) -> dict[str, Any]:
    """Write a batch as the aligned arrays of ``exchange_v1``.

    The literals are put together by hand: they hold numbers and single letters only, and psycopg2's adaptation of lists
    costs ten times as much.
    """
    now = time.monotonic()
    has_extra = any(c.extra is not None for c in batch)
    return {
        "ids": _numbers([c.proxy.id for c in batch]),
        "runs": _numbers([c.proxy.run for c in batch]),
        "outcomes": _array([c.outcome for c in batch]),
        "attempts": _numbers([c.attempt for c in batch]),
        "lanes": _numbers([c.proxy.lane_id for c in batch]),
        "started": _array([_ago(now, c.proxy.started_at) for c in batch]),
        "finished": _array([_ago(now, c.finished_at) for c in batch]),
        "next": _array(["NULL" if c.next_eta is None else repr(c.next_eta) for c in batch]),
        "extra": "[" + ",".join([c.extra or "null" for c in batch]) + "]" if has_extra else None,
        "follow": any(c.has_follow for c in batch),
        "ttls": _array(["NULL" if c.ttl_ms is None else str(c.ttl_ms) for c in batch]),
    }


def _ago(now: float, then: float | None) -> str:
    return "NULL" if then is None else f"{(now - then) * 1000:.3f}"


def _array(values: list[str]) -> str:
    return "{" + ",".join(values) + "}"


def _numbers(values: list[int]) -> str:
    return "{" + str(values)[1:-1].replace(" ", "") + "}"
