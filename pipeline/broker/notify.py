"""Wake idle workers, but never at more than a trickle: NOTIFY takes a lock of the whole server at commit.

18,000 inserts a second become 4,900 if each of them notifies. So a process has a bucket of tokens: with one, a send
notifies in its own commit, for all that came before it; without, a trailing NOTIFY follows, unless such a send does.
It is a hint: workers look by themselves.
"""

from __future__ import annotations

import atexit
import threading
import time
from os import getpid
from typing import TYPE_CHECKING

import psycopg2

from pipeline.errors import PipelineError
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from pipeline.db.pool import Pool

_PER_SECOND = 200.0
_BURST = 20.0
#: A trailing NOTIFY comes so long after the last one: in a stream of sends the next one with a token is quicker.
_APART_SECONDS = 2 / _PER_SECOND
#: The thread ends when it had nothing to send for so long.
_IDLE_SECONDS = 1.0

log = get_logger(__name__)


class Notifier:
    """The tokens of one process, and the thread that sends what had to wait for one."""

    def __init__(self, pool: Pool, channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._reset()

    def _reset(self) -> None:
        self._pid = getpid()
        self._lock = threading.Lock()
        self._tokens = _BURST
        self._refilled_at = time.monotonic()
        self._notified_at = 0.0
        self._is_due = False
        self._is_closing = False
        #: Wakes the thread when something becomes due.
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(self._flush)

    def take(self) -> bool:
        """Take a token for a NOTIFY in the commit of a send; without one, :meth:`notify_soon` is to follow it."""
        if self._pid != getpid():
            self._reset()
        with self._lock:
            now = time.monotonic()
            self._tokens = min(_BURST, self._tokens + (now - self._refilled_at) * _PER_SECOND)
            self._refilled_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            self._notified_at = now
            self._is_due = False
            return True

    def notify_soon(self) -> None:
        """Send one NOTIFY from a thread of its own, after a caller's commit or for want of a token."""
        if self._pid != getpid():
            self._reset()
        if self._is_due:
            return
        with self._lock:
            self._is_due = True
            self._bell.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._trail, name="pipeline-notify", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let the thread send what is due, and end. Should something come later, there is another one."""
        if self._pid != getpid():
            return
        with self._lock:
            self._is_closing = self._thread is not None
            self._bell.set()

    def _trail(self) -> None:
        """Send what is due, one at a time; end when nothing was due for a while."""
        while True:
            has_rung = self._bell.wait(_IDLE_SECONDS)
            self._bell.clear()
            if self._is_due:
                threading.Event().wait(self._notified_at + _APART_SECONDS - time.monotonic())
                self._flush()
            with self._lock:
                if not self._is_due and (self._is_closing or not has_rung):
                    self._thread, self._is_closing = None, False
                    return

    def _flush(self) -> None:
        if not self._is_due or self._pid != getpid():
            return
        self._notified_at = time.monotonic()
        self._is_due = False
        try:
            with self._pool.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", (self._channel,))
        except (psycopg2.Error, PipelineError):
            log.debug("notify.failed", channel=self._channel)
