"""Adopt tasks from the dramatiq-pg inbox.

A producer with an unmodified ``dramatiq_pg.PostgresBroker`` writes to its own table and keeps working: once a second
some worker moves what waits there into our store. Which worker does not matter; the statement lets one in at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg2

from pipeline.logger import get_logger
from pipeline.store import inbox, tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Rows moved in one transaction, at most.
_LIMIT = 500
#: Transactions in a row, at most: then the other duties have their turn.
_BATCHES = 8
_LOOK_SECONDS = 1.0
#: How soon to look again for an inbox that is not there, or that we may not touch.
_RARE_LOOK_SECONDS = 60.0
#: What part of the time may go into looking, should the inbox be full of rows that are not for us.
_LARGEST_PART = 0.05
_TASK_IS_RUNNING = "PQ003"
_TIMED_OUT = "55P03"
#: SQLSTATE classes that are about the connection or the server and not about the inbox.
_OF_THE_SERVER = frozenset({"08", "40", "53", "57", "58"})

log = get_logger(__name__)


class InboxAdopter:
    """Moves rows of the inbox into our store; off while there is no inbox."""

    doers = 1

    def __init__(self, where: tuple[str, str], sql: Mapping[str, str]) -> None:
        self._where = where
        self._sql = sql
        self._interval_seconds = _LOOK_SECONDS
        #: Why the inbox is not used, as it was last said; None while it is.
        self._obstacle: str | None = None

    @property
    def interval_seconds(self) -> float:
        """Each second while there is an inbox, at once while it is full, rarely while there is none."""
        return self._interval_seconds

    def forget(self) -> None:
        """Nothing is remembered that a lost connection would make wrong."""

    def run(self, cursor: Any) -> None:
        """Adopt what waits, if there is an inbox."""
        started = time.monotonic()
        is_full = False
        try:
            is_full = self._adopt(cursor)
        except psycopg2.Error as error:
            self._pass_over(error)
        if self._obstacle is not None:
            self._interval_seconds = _RARE_LOOK_SECONDS
        else:
            spent = time.monotonic() - started
            self._interval_seconds = 0.0 if is_full else max(_LOOK_SECONDS, spent / _LARGEST_PART)

    def _adopt(self, cursor: Any) -> bool:
        """Adopt some batches; tell whether there is more."""
        for _ in range(_BATCHES):
            found = inbox.adopt(self._sql, cursor, self._where, _LIMIT)
            if found is None:
                self._note("there is no such table")
                return False
            self._note(None)
            self._tell(found)
            for queue, priority in found.missing_lanes:
                tasks.ensure_lane(self._sql, cursor, queue, priority)
            if found.adopted + found.rejected < _LIMIT and not found.missing_lanes:
                return False
        return True

    def _pass_over(self, error: psycopg2.Error) -> None:
        """Go on without the inbox if it is the inbox that is wrong; whatever else there is, is for the caretaker."""
        if error.pgcode in {_TASK_IS_RUNNING, _TIMED_OUT}:
            return  # nothing has happened; all of it is still there next time
        if error.pgcode is None or error.pgcode[:2] in _OF_THE_SERVER:
            raise error
        self._note((error.diag.message_primary or str(error)).strip())

    def _note(self, obstacle: str | None) -> None:
        """Say once why the inbox is not used, and when that is over."""
        if obstacle == self._obstacle:
            return
        name = ".".join((self._where[0], self._where[1] + "queue"))
        if obstacle is None:
            log.info("inbox.found", inbox=name)
        else:
            log.info("inbox.unused", inbox=name, reason=obstacle, look_again_in=_RARE_LOOK_SECONDS)
        self._obstacle = obstacle

    def _tell(self, found: inbox.Adoption) -> None:
        if found.adopted:
            log.info("inbox.adopted", tasks=found.adopted)
        if found.rejected:
            log.error("inbox.rejected", rows=found.rejected, hint="the reasons are in the table inbox_rejected")
