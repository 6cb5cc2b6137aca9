"""A relay in front of PostgreSQL that counts what is said: statements, and transactions that end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from pipeline.db.dsn import Dsn, Host

_CHUNK = 1 << 16
#: Of each statement so much is kept.
_HEAD_BYTES = 200
#: Types of the protocol's messages.
_QUERY, _SYNC, _READY = b"Q", b"S", b"Z"
_IDLE = b"I"


@dataclass(eq=False)
class Conversation:
    """What went over one connection."""

    #: The beginnings of the statements, in order: one for each round trip.
    statements: list[bytes] = field(default_factory=list)
    #: Transactions that have ended, those of single statements included.
    transactions: int = 0

    @property
    def round_trips(self) -> int:
        return len(self.statements)

    def says(self, text: str) -> bool:
        """Tell whether that stands in one of its statements."""
        return any(text.encode() in statement for statement in self.statements)

    def asked(self, kind: bytes, body: bytes) -> None:
        if kind in {_QUERY, _SYNC}:
            self.statements.append(body[:_HEAD_BYTES])

    def answered(self, kind: bytes, body: bytes) -> None:
        if kind == _READY and body == _IDLE and self.statements:  # not the one that ends the log-in
            self.transactions += 1


class Relay:
    """Relays until it is closed. Messages are counted before they are passed on."""

    def __init__(self, url: str) -> None:
        dsn = Dsn.parse(url)
        self._server = (dsn.hosts[0].name, int(dsn.hosts[0].port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        host = Host("127.0.0.1", str(self._listener.getsockname()[1]))
        # Nothing is asked in an envelope that has to be refused first.
        plain = (*dsn.parameters, ("sslmode", "disable"), ("gssencmode", "disable"))
        self.url = replace(dsn, hosts=(host,), parameters=plain).libpq
        self.conversations: list[Conversation] = []
        self._sockets: set[socket.socket] = {self._listener}
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def round_trips(self) -> int:
        return sum(each.round_trips for each in self.conversations)

    @property
    def transactions(self) -> int:
        return sum(each.transactions for each in self.conversations)

    def close(self) -> None:
        """End all connections and threads."""
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="relay", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets |= {client, server}
                conversation = Conversation()
                self.conversations.append(conversation)
                self._start(self._pump, client, server, _Messages(has_start=True), conversation.asked)
                self._start(self._pump, server, client, _Messages(has_start=False), conversation.answered)

    def _pump(self, source: socket.socket, target: socket.socket, messages: _Messages, count: object) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                for kind, body in messages.within(data):
                    count(kind, body)  # type: ignore[operator]
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Messages:
    """Cuts one direction of a connection into messages: a type of one byte, a length of four, the rest."""

    def __init__(self, *, has_start: bool) -> None:
        self._left = b""
        self._head = 0 if has_start else 1  # the very first one of a client has no type

    def within(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._left += data
        while len(self._left) >= self._head + 4:
            end = self._head + int.from_bytes(self._left[self._head : self._head + 4])
            if len(self._left) < end:
                return
            message, self._left = self._left[:end], self._left[end:]
            yield message[: self._head], message[self._head + 4 :]
            self._head = 1


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """Put a relay in front of a database for a block."""
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.close()
