"""What is told of a task: its state, and a version that changes with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from api.encoding import encode
from api.live.frames import frame
from api.live.subscription import Subscription
from api.shapes.tasks import LARGE, LARGE_OF_ONE, Task
from api.visibility import PAYLOADS
from pipeline.store.tasks import TaskRow

#: Arguments and results are not told: they may be large, and are not for everybody who may watch.
_TOLD = tuple(name for name in Task.model_fields if name not in LARGE_OF_ONE)
_LISTED = tuple(name for name in _TOLD if name not in LARGE)


@dataclass(frozen=True)
class Snapshot:
    """A task at one moment, as somebody sees it who sees payloads or not."""

    row: TaskRow
    has_payloads: bool = True

    @cached_property
    def without_payloads(self) -> Snapshot:
        """The same as others see it."""
        return Snapshot(self.row, has_payloads=False)

    def seen_by(self, client: Subscription) -> Snapshot:
        """The same as a client sees it."""
        return self if client.sees_payloads else self.without_payloads

    @cached_property
    def data(self) -> dict[str, Any]:
        """What is told of it in its own stream: what there is to see of one task."""
        return self._told(_TOLD)

    @property
    def listed(self) -> dict[str, Any]:
        """What is told of it among others: what there is to see in lists."""
        return self._told(_LISTED)

    def _told(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: None if self._hides(name) else getattr(self.row, name) for name in names}

    def _hides(self, name: str) -> bool:
        return name in PAYLOADS and not self.has_payloads

    @cached_property
    def version(self) -> str:
        """Tell what is seen of the task now from what was seen of it before; the same in every process."""
        return blake2b(encode(self.data), digest_size=9).hexdigest()

    @cached_property
    def frame(self) -> bytes:
        """The event of the task's own stream."""
        return frame("task", self.data, self.version)

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return self.row.state.is_final
