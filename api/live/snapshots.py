"""What is told of a task: its state, and a version that changes with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any

from api.live.frames import encode, frame
from pipeline.store.tasks import TaskRow

#: Not told: what people put into a task and got out of it may be large, and is not for everybody who may watch; whoever
#: may see it asks for the task. And what is our own.
_UNTOLD = frozenset({"args", "kwargs", "result", "id"})
_TOLD = tuple(each.name for each in fields(TaskRow) if each.name not in _UNTOLD)


@dataclass(frozen=True)
class Snapshot:
    """A task at one moment."""

    row: TaskRow

    @cached_property
    def data(self) -> dict[str, Any]:
        """What is told."""
        return {name: getattr(self.row, name) for name in _TOLD}

    @cached_property
    def version(self) -> str:
        """Tell this state of the task from others; the same in every process."""
        return blake2b(encode(self.data), digest_size=9).hexdigest()

    @cached_property
    def frame(self) -> bytes:
        """The event of the task's own stream."""
        return frame("task", self.data, self.version)

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return self.row.state.is_final
