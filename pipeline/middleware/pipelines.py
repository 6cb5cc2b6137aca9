"""The next step of a chain."""

from __future__ import annotations

from typing import Any

from dramatiq.middleware import Pipelines as DramatiqPipelines


class Pipelines(DramatiqPipelines):
    """Dramatiq's, which looks up an actor and imports a module after each task, for those that have a next step."""

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        """Enqueue the next step, if there is one."""
        if "pipe_target" in message.options:
            super().after_process_message(broker, message, result=result, exception=exception)
