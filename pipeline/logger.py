"""The loggers of our own code: events with named values, handed to Python's standard ``logging``.

A library writes where its host says. Nothing here configures anything or depends on what was configured: the same line
goes through ``pipeline.logs`` in our own programs, through structlog's formatter where the host uses that, and as
``worker.rescued worker_id=7`` to everything else.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict, WrappedLogger


class Line(dict[str, Any]):
    """An event and its values; its text is for outputs that know nothing of structlog."""

    def __str__(self) -> str:
        """Show the event and then its values."""
        values = (f"{key}={value!r}" for key, value in self.items() if key not in {"event", "exc_info"})
        return " ".join([str(self.get("event", "")), *values])


def get_logger(name: str) -> BoundLogger:
    """Make the logger of a module, as ``logging.getLogger`` does."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _hand_over],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def _hand_over(logger: WrappedLogger, method: str, line: EventDict) -> tuple[tuple[Line], dict[str, Any]]:
    """Make the arguments of the standard logger, marked so that structlog's formatter sees its own line in them."""
    if line.get("exc_info") is True:
        line["exc_info"] = sys.exc_info()
    return (Line(line),), {"exc_info": line.get("exc_info"), "extra": {"_logger": logger, "_name": method}}
