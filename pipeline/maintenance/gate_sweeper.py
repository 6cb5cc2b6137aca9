"""Let tasks go on that are parked at a gate which has room again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.store import gates

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTERVAL_SECONDS = 1.0
#: As long as nothing was parked anywhere when it was last looked.
_IDLE_SECONDS = 2.0
#: How soon to go on if there are more gates.
_AGAIN_SECONDS = 0.1
_LIMIT = 500


class GateSweeper:
    """Looks at gates where tasks are parked: after a pause, when a rate allows more, and where nobody else has looked.

    Who frees a slot lets the next task go on by itself. Rates and the ends of pauses come without anybody's doing.
    """

    doers = 1

    def __init__(self, sql: Mapping[str, str]) -> None:
        self._sql = sql
        self._after: str | None = None
        self._is_needed = True

    @property
    def interval_seconds(self) -> float:
        """Every second while something is parked; at once again while there are more gates."""
        if self._after is not None:
            return _AGAIN_SECONDS
        return _INTERVAL_SECONDS if self._is_needed else _IDLE_SECONDS

    def forget(self) -> None:
        """Begin with the first gate."""
        self._after = None

    def run(self, cursor: Any) -> None:
        """Look at some of them."""
        self._after, self._is_needed = gates.sweep(self._sql, cursor, self._after, _LIMIT)
