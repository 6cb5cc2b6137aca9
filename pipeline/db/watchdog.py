"""Ends a statement that gets no answer in time.

libpq waits for an answer as long as the connection stands, and that of a server which merely stopped stands for ever:
its kernel goes on acknowledging. psycopg2 can wait with a limit only for all connections of a process alike. So a
thread looks after those whose callers have a deadline, and hangs up on the server; the caller then gets the error it
would get if the connection had been lost.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

_LOOK_SECONDS = 0.2
#: The thread ends when it had nothing to look after for so long.
_IDLE_LOOKS = 5


class Watchdog:
    """Hangs up on connections whose time is over. Its thread exists while it is needed, anew after a fork."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._watched: dict[object, tuple[float, Connection]] = {}
        self._thread: threading.Thread | None = None
        #: Rings when the thread is not to wait for something to do.
        self._bell = threading.Event()

    def watch(self, connection: Connection, seconds: float) -> object:
        """Let what is asked on a connection until :meth:`leave` take no longer than this; return what that takes."""
        if self._pid != os.getpid():
            self._reset()
        token = object()
        with self._mutex:
            self._watched[token] = (time.monotonic() + seconds, connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pipeline-watchdog", daemon=True)
                self._thread.start()
        return token

    def leave(self, token: object) -> None:
        """Look after that connection no more."""
        with self._mutex:
            self._watched.pop(token, None)  # absent after a fork

    def close(self) -> None:
        """Let the thread end now if it has nothing to look after. Should something come, there is another one."""
        if self._pid == os.getpid():
            self._bell.set()

    def _run(self) -> None:
        idle_looks = 0
        while True:
            is_told = self._bell.wait(_LOOK_SECONDS)
            with self._mutex:  # so that no connection is given back, and lent to somebody else, meanwhile
                self._bell.clear()
                self._look()
                idle_looks = 0 if self._watched else idle_looks + 1
                if idle_looks == _IDLE_LOOKS or (is_told and idle_looks):
                    self._thread = None
                    return

    def _look(self) -> None:
        now = time.monotonic()
        for deadline, connection in self._watched.values():
            if now >= deadline:
                _hang_up(connection)


def _hang_up(connection: Connection) -> None:
    """End the connection's socket under libpq, which reads the end of file then."""
    with suppress(psycopg2.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
