"""Shutdown in tasks that asked to be told."""

from __future__ import annotations

from typing import Any

from dramatiq.middleware import ShutdownNotifications as DramatiqShutdownNotifications


class ShutdownNotifications(DramatiqShutdownNotifications):
    """Dramatiq's, through the one interrupter: it cannot hit the next task or the bookkeeping."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Nothing: the interrupter knows what runs."""

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        """Nothing: the interrupter knows what ended."""

    after_skip_message = after_process_message

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Raise Shutdown in the tasks that asked for it."""
        for task in broker.interrupter.running():
            if self.should_notify(broker.get_actor(task.actor), task.message):
                broker.interrupter.shut_down(task)
