"""What Dramatiq's Worker holds of ours: a proxy per claimed task, a facade per queue."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Any

from dramatiq.broker import Consumer, MessageProxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dramatiq import Message

    from pipeline.broker.hub import Hub
    from pipeline.broker.outcome import Conclusion
    from pipeline.broker.task_logs import RunLog
    from pipeline.context import CurrentTask


class TaskProxy(MessageProxy):
    """A claimed task on its way through the worker.

    The message's fields are copied, since the base class finds each by a failed attribute lookup.
    """

    started_at: float | None = None
    thread: threading.Thread | None = None
    #: Where the run stands on the board, if it does.
    slot: int | None = None
    task: CurrentTask | None = None
    conclusion: Conclusion | None = None
    #: Somebody asked the task to end.
    is_cancelled = False
    #: The run was concluded elsewhere: by the transaction of its actor, or by a rescue.
    is_settled = False
    #: What the run has logged, if anything.
    log: RunLog | None = None

    def __init__(  # noqa: PLR0913 - one per column of the claim
        self,
        message: Message[Any],
        *,
        id: int,
        run: int,
        attempt: int,
        lane_id: int,
        priority: int,
        eta: float,
        claim_id: int,
        is_gated: bool = False,
        losses: int = 0,
        inbox: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message_id = message.message_id
        self.actor_name = message.actor_name
        self.queue_name = message.queue_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.options = message.options
        self.id = id
        self.run = run
        self.attempt = attempt
        self.lane_id = lane_id
        self.priority = priority
        self.eta = eta
        self.claim_id = claim_id
        #: Whether the run may hold what others wait for.
        self.is_gated = is_gated
        #: How often the task has lost its process since it was enqueued.
        self.losses = losses
        #: The dramatiq-pg inbox (schema, prefix) at which the result is awaited, for an adopted task.
        self.inbox = inbox

    def __str__(self) -> str:
        """Show no arguments: Dramatiq puts messages into its lines, whoever has configured where those go."""
        return f"{self.actor_name} {self.message_id}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self} run={self.run}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def unstarted(queue: Any) -> Iterator[TaskProxy]:
    """Take what waits in a worker out of its threads' reach."""
    with suppress(Empty):
        while True:
            _, proxy = queue.get_nowait()
            queue.task_done()
            yield proxy


class QueueFacade(Consumer):
    """Dramatiq's consumer of one queue, which consumes nothing: the hub claims for all queues together.

    Asking for the first message tells the hub that Dramatiq has put the facade in its place; only then may tasks of the
    queue reach a worker thread, which would otherwise find no consumer to acknowledge to.
    """

    def __init__(self, hub: Hub, queue: str, timeout_ms: int) -> None:
        self._hub = hub
        self._queue = queue
        self._timeout_seconds = timeout_ms / 1000
        self._closed = threading.Event()

    def __iter__(self) -> QueueFacade:
        self._hub.open_queue(self._queue)
        return self

    def __next__(self) -> None:
        self._closed.wait(self._timeout_seconds)

    def ack(self, proxy: TaskProxy) -> None:
        """Hand the conclusion to the hub. No lock, no I/O, no exception."""
        self._hub.put(proxy)

    def nack(self, proxy: TaskProxy) -> None:
        """Leave it to ``after_nack``: Dramatiq's Results stores the exception there, which belongs to the outcome."""

    def requeue(self, proxies: Iterable[TaskProxy]) -> None:
        """Give back what was claimed and not started."""
        for proxy in proxies:
            self._hub.give_back(proxy)

    def close(self) -> None:
        """Stop claiming the queue."""
        self._closed.set()
        self._hub.close_queue(self._queue)
