"""Pause, resume and limit actors, tenants and keys; limit and weigh queues. On the transaction the cursor has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline.commands.queues import pause_ms
from pipeline.errors import ActorUnknown, GateUnknown, QueueUnknown
from pipeline.store import gates, queues

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By

#: What a gate's limit may be.
_MOST = 2**31 - 1


def pause_gate(
    sql: Mapping[str, str],
    cursor: Cursor,
    gate: str,
    *,
    by: By,
    resume_after: timedelta | None = None,
) -> None:
    """Let no task pass a gate; what runs goes on.

    Raises:
        ActorUnknown, GateUnknown: There is no such gate.
        ValueError: ``resume_after`` is not above 0.
    """
    after_ms = pause_ms(resume_after)
    if not gates.pause(sql, cursor, gate, by=by, resume_after_ms=after_ms):
        raise _unknown(gate)


def resume_gate(sql: Mapping[str, str], cursor: Cursor, gate: str, *, by: By) -> None:
    """Let tasks pass a gate again; one that is not paused stays so.

    Raises:
        ActorUnknown, GateUnknown: There is no such gate.
    """
    if not gates.resume(sql, cursor, gate, by=by):
        raise _unknown(gate)


def limit_gate(sql: Mapping[str, str], cursor: Cursor, gate: str, max_running: int | None, *, by: By) -> None:
    """Let so many tasks through a gate at a time; None for what their actors are declared with.

    Raises:
        ActorUnknown, GateUnknown: There is no such gate, or it is a tenant's, which only can be paused.
        ValueError: The limit is no whole number above 0.
    """
    if not gates.limit(sql, cursor, gate, _checked(max_running), by=by):
        raise _unknown(gate)


def limit_queue(sql: Mapping[str, str], cursor: Cursor, queue: str, max_running: int | None, *, by: By) -> None:
    """Let so many tasks of a queue run at a time; None for any number.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: The limit is no whole number above 0.
    """
    if not queues.limit(sql, cursor, queue, _checked(max_running), by=by):
        raise QueueUnknown(queue)


def weigh_queue(sql: Mapping[str, str], cursor: Cursor, queue: str, weight: float, *, by: By) -> None:
    """Let a queue come first so much more often than others of its priority, which have 1.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: The weight is no number from 0.001 to 1000.
    """
    if not math.isfinite(weight) or not 0.001 <= weight <= 1000:
        message = f"A weight is a number from 0.001 to 1000, not {weight!r}"
        raise ValueError(message)
    if not queues.weigh(sql, cursor, queue, weight, by=by):
        raise QueueUnknown(queue)


def _checked(limit: Any) -> int | None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= _MOST):
        message = f"A limit is a whole number above 0, not {limit!r}; to let nothing run, pause it"
        raise ValueError(message)
    return limit


def _unknown(gate: str) -> Exception:
    kind, _, name = gate.partition(":")
    return ActorUnknown(name) if kind == "actor" else GateUnknown(gate)
