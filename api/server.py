"""gunicorn's threaded worker, which slow clients cannot keep from others: ``--worker-class api.server.Worker``.

Its threads are few. As it comes, gunicorn gives one to a new connection for up to 5 s until that says something, and
then for ever until the request is complete: as many clients as there are threads, each of which sends half a line, stop
everything. Here

- a connection has a thread only once its head is there, and its body if that is small: until then the main loop watches
  it, for 10 s, by a look at what the kernel has received;
- the rest of a body must arrive within 10 s, and a second more for each 8 KiB that do, else the connection is closed.

How long a view takes, or a client to read its answer, is not limited by that. Behind a proxy that buffers requests all
of this happens there. Where gunicorn speaks TLS itself it is as it comes.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from functools import partial
from typing import Any, Self

from gunicorn.http.errors import NoMoreData
from gunicorn.workers import gthread

_SECONDS, _BYTES_PER_SECOND = 10.0, 8192
#: What is waited for without a thread: less than half of the smallest buffer that kernels have for a connection.
_SMALL_BYTES = 32_768
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})", re.IGNORECASE)
#: Its client sends no body before it has an answer.
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)


class ImpatientSocket(socket.socket):
    """A connection from which a request is read in time or not at all."""

    deadline: float
    #: How much of a request was there when somebody looked.
    _seen = 0

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """Take over a new connection."""
        made = cls(fileno=connection.detach())
        made.expect_request()
        return made

    def expect_request(self) -> None:
        """Start the clock."""
        self.deadline = time.monotonic() + _SECONDS

    def has_request(self) -> bool:
        """Tell whether a thread would not wait for a request; if it would, let the poller be quiet until more comes."""
        try:
            seen = super().recv(_SMALL_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True  # whoever reads it learns what is wrong
        # No more than the last time, and yet the poller told us to look: the client has gone, with or without a word.
        is_ready = len(seen) == self._seen or is_whole(seen) or len(seen) == _SMALL_BYTES
        self._seen = 0 if is_ready else len(seen)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._seen + 1)
        return is_ready

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive what there is before the time is over.

        Raises:
            NoMoreData: It is over; gunicorn takes it for a client that has gone.
        """
        patience = self.gettimeout()
        left = self.deadline - time.monotonic()
        if patience is not None and patience <= left:
            data = super().recv(size, flags)
        else:
            data = self._receive_within(left, patience, size, flags)
        self.deadline += len(data) / _BYTES_PER_SECOND
        return data

    def _receive_within(self, seconds: float, patience: float | None, size: int, flags: int) -> bytes:
        if seconds <= 0:
            raise NoMoreData
        self.settimeout(seconds)
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise NoMoreData from None
        finally:
            self.settimeout(patience)


def is_whole(seen: bytes) -> bool:
    """Tell whether a request is there that a thread can answer without waiting for its client.

    Of one with a large body, or a body of unknown length, the head will do.
    """
    head, end, body = seen.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not end or length is None or _EXPECTS.search(head):
        return bool(end)
    wanted = int(length[1])
    return len(body) >= wanted or len(head) + len(end) + wanted > _SMALL_BYTES


class _Listener:
    """A listening socket whose connections are impatient."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = self._listener.accept()
        return ImpatientSocket.of(connection), address

    def getsockname(self) -> Any:
        return self._listener.getsockname()


class Worker(gthread.ThreadWorker):
    """Serves requests that have arrived, and waits for the others without a thread."""

    def accept(self, listener: Any) -> None:
        """Accept a connection."""
        super().accept(listener if self.cfg.is_ssl else _Listener(listener))

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread if its request is there, and back to the poller if not."""
        if isinstance(conn.sock, ImpatientSocket):
            if not _has_read_ahead(conn) and not conn.sock.has_request():
                self._watch(conn)
                return
            conn.sock.expect_request()
            conn.data_ready = True
        super().enqueue_req(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Begin with the next request of a connection."""
        if isinstance(conn.sock, ImpatientSocket):
            conn.sock.expect_request()
        super().on_client_socket_readable(conn, client)

    def murder_pending(self) -> None:
        """Close connections whose time is over; when it stops, all that have no whole request."""
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = 0.0
        super().murder_pending()

    def _watch(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        conn.timeout = conn.sock.deadline
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))


def _has_read_ahead(conn: Any) -> bool:
    """Tell whether a part of the next request was read with the one before."""
    return conn.parser is not None and bool(conn.parser.unreader.buf.getvalue())
