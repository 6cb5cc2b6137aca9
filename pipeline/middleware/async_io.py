"""An event loop for async actors, started only where there are any."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware.asyncio import AsyncIO as DramatiqAsyncIO


class AsyncIO(DramatiqAsyncIO):
    """Dramatiq's, without a thread in workers that have no async actor."""

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start the event loop's thread if an actor needs it."""
        if get_event_loop_thread() is None and any(map(_is_async, broker.actors.values())):
            super().before_worker_boot(broker, worker)

    def after_declare_actor(self, broker: Any, actor: Any) -> None:
        """Start it for an actor that is declared while the worker runs."""
        if broker.is_working:
            self.before_worker_boot(broker, None)

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop the thread."""
        if get_event_loop_thread() is not None:
            super().after_worker_shutdown(broker, worker)


def _is_async(actor: Any) -> bool:
    return iscoroutinefunction(getattr(actor.fn, "__wrapped__", None))
