"""What is told of a task: its state, and a version that changes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from api.encoding import encode
from api.live.frames import frame
from api.shapes.tasks import LARGE, LARGE_OF_ONE, Task
from pipeline.store.tasks import TaskRow

#: Arguments and results are not told: they may be large, and are not for everybody who may watch.
_TOLD = tuple(name for name in Task.model_fields if name not in LARGE_OF_ONE)
_LISTED = tuple(name for name in _TOLD if name not in LARGE)


@dataclass(frozen=True)
class Snapshot:
    """A task at one moment."""

    row: TaskRow

    @cached_property
    def data(self) -> dict[str, Any]:
        """What is told of it in its own stream: what there is to see of one task."""
        return {name: getattr(self.row, name) for name in _TOLD}

    @property
    def listed(self) -> dict[str, Any]:
        """What is told of it among others: what there is to see in lists."""
        return {name: getattr(self.row, name) for name in _LISTED}

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
