"""Hearing what is logged anywhere in this process, without changing what its own log shows.

A line below the level of the root logger is not even made, and who heard nothing at WARNING could not tell an operator
what a task said at INFO. So for as long as somebody listens here, the root logger's level is lowered to what he wants,
and every other handler keeps out what it would not have got. A level that some logger was given for itself holds as it
does without us: whoever silenced a library wants it silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Self


class Listener(logging.Handler):
    """A handler that hears what is logged at its level or above, whatever the process's own log shows."""

    def listen(self) -> None:
        """Begin to listen; or see to it again, in case the host program has configured its logging anew."""
        logging.root.addHandler(self)
        _settle()

    def leave(self) -> None:
        """Listen no more. When nobody does, everything is as it was."""
        logging.root.removeHandler(self)
        _settle()

    def stand_in(self, record: logging.LogRecord) -> None:
        """Do what Python does with a line that no handler gets: whether there is one, it tells by counting us, too."""
        last = logging.lastResort
        if last is None or logging.root.handlers[:1] != [self] or any(_others_on_the_way(record.name)):
            return
        if record.levelno >= last.level and _was_wanted(record):
            last.handle(record)


class _Lowered(int):
    """A level of the root logger that is our doing. Whoever sets another one puts it in the place of this object."""

    #: What it would be without us.
    usual: int

    @classmethod
    def to(cls, level: int, usual: int) -> Self:
        lowered = cls(level)
        lowered.usual = usual
        return lowered


def _settle() -> None:
    """Let the root logger's level, and what the others keep out, follow from who listens."""
    root = logging.root
    usual = root.level.usual if isinstance(root.level, _Lowered) else root.level
    wanted = min((each.level for each in root.handlers if isinstance(each, Listener)), default=usual)
    if wanted < usual:
        for handler in _others():
            handler.addFilter(_was_wanted)
        if root.level != wanted or not isinstance(root.level, _Lowered):
            root.setLevel(_Lowered.to(wanted, usual))
    elif isinstance(root.level, _Lowered):
        root.setLevel(usual)
        for handler in _others():
            handler.removeFilter(_was_wanted)


def _was_wanted(record: logging.LogRecord) -> bool:
    """Tell whether a line would have been made without us."""
    level = logging.root.level
    return not isinstance(level, _Lowered) or record.levelno >= level.usual or _has_own_level(record.name)


def _has_own_level(name: str) -> bool:
    return any(logger.level for logger in _way_up(name))


def _way_up(name: str) -> Iterator[logging.Logger]:
    """List a logger and those above it, without the root."""
    logger = logging.root.manager.loggerDict.get(name)
    while isinstance(logger, logging.Logger) and logger is not logging.root:
        yield logger
        logger = logger.parent


def _others_on_the_way(name: str) -> Iterator[logging.Handler]:
    """List whom a line of this logger reaches besides us; it has reached us, so nothing on the way keeps it back."""
    for logger in (*_way_up(name), logging.root):
        yield from (handler for handler in logger.handlers if not isinstance(handler, Listener))


def _others() -> Iterator[logging.Handler]:
    """List all other handlers of this process."""
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        if isinstance(logger, logging.Logger):
            yield from (handler for handler in logger.handlers if not isinstance(handler, Listener))
