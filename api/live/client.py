"""The other end of a connection, as far as the server lets us see it."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

#: So much may be under way to a client. What a slow one gets late is old: it shall rather get less.
_BUFFER_BYTES = 65_536
#: Linux tells that the other end has hung up; elsewhere it shows when something is written.
_HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


class Client:
    """A client's socket, which gunicorn shows us. With another server a client is always there and always ready."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._socket: socket.socket | None = environ.get("gunicorn.socket")

    def keep_little(self) -> None:
        """Let little wait in the kernel for the client to read it."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    @property
    def has_left(self) -> bool:
        """Tell whether nobody is there any more."""
        return self._socket is not None and bool(self._poll(0, 0) & _HUNG_UP)

    def is_ready(self, seconds: float) -> bool:
        """Tell whether the client takes something, as soon as it does, or after so long."""
        return self._socket is None or bool(self._poll(select.POLLOUT, seconds) & select.POLLOUT)

    def _poll(self, events: int, seconds: float) -> int:
        assert self._socket is not None  # noqa: S101 - asked by the callers
        poll = select.poll()
        try:
            poll.register(self._socket, events | _HUNG_UP)
        except (OSError, ValueError):  # it has been closed
            return select.POLLNVAL
        return next((happened for _, happened in poll.poll(1000 * seconds)), 0)
