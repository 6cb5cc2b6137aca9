"""End what waits although it was asked to end while it ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.logger import get_logger
from pipeline.store import cancels

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTERVAL_SECONDS = 10.0

log = get_logger(__name__)


class CancelSettler:
    """Cancels what waits again since its retry and the request were committed at the same moment.

    No worker would run it, but until its eta it would look as if one did.
    """

    interval_seconds = _INTERVAL_SECONDS
    doers = 1

    def __init__(self, sql: Mapping[str, str]) -> None:
        self._sql = sql

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Look once."""
        if settled := cancels.settle(self._sql, cursor):
            log.info("cancels.settled", tasks=settled)
