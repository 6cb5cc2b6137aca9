"""Makes a task for a thread of a row that was claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.broker.consumer import TaskProxy
from pipeline.broker.messages import decode, is_adopted

if TYPE_CHECKING:
    from pipeline.broker.broker import PostgresBroker
    from pipeline.store.workers import Lane


def as_proxy(row: Any, lane: Lane, broker: PostgresBroker) -> tuple[TaskProxy, Exception | None]:
    """Read a row of ``exchange_v1``; with what is wrong with it, if nobody here can do that task."""
    claim_id, task_id, run, attempt, lane_id, eta, message_id, actor, payload, patch, is_gated, losses = row
    error: Exception | None = None
    try:
        message = decode(message_id, lane.queue, actor, payload, patch)
        broker.get_actor(actor)
    except Exception as broken:  # noqa: BLE001 - whatever the decoder raises; the task fails with it
        error = broken
        message = decode(message_id or "", lane.queue, actor or "", "{}", None)
    proxy = TaskProxy(
        message,
        id=task_id,
        run=run,
        attempt=attempt,
        lane_id=lane_id,
        priority=lane.priority,
        eta=eta,
        claim_id=claim_id,
        is_gated=is_gated,
        losses=losses,
        inbox=broker.inbox if is_adopted(payload) else None,
    )
    return proxy, error
