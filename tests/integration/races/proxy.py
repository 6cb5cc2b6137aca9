"""A relay in front of PostgreSQL that cuts a connection at a chosen moment. Real sockets, nothing is faked."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pipeline.db.dsn import Dsn, Host

#: ReadyForQuery outside a transaction: the server has committed and said everything.
_COMMITTED = b"Z\x00\x00\x00\x05I"

Test = Callable[[bytes], object]


@dataclass
class Trap:
    """Cuts the connection that carries a matching statement: before it arrives, or before its reply is forwarded."""

    request: Test
    reply: Test | None
    was_cut: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Relays to the server; at most one trap is set at a time, and it closes once."""

    def __init__(self, url: str) -> None:
        dsn = Dsn.parse(url)
        self._server = (dsn.hosts[0].name, int(dsn.hosts[0].port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: set[socket.socket] = {self._listener}
        self._trap: Trap | None = None
        port = str(self._listener.getsockname()[1])
        self.url = Dsn(dsn.user, dsn.password, (Host("127.0.0.1", port),), dsn.database, dsn.parameters).libpq
        _thread(self._accept)

    def cut_before(self, request: Test | bytes) -> Trap:
        """Let the next matching statement never arrive."""
        self._trap = Trap(_test(request), None)
        return self._trap

    def cut_after(self, request: Test | bytes, reply: Test | bytes = b"") -> Trap:
        """Let the next matching statement be committed, and its matching reply never arrive."""
        self._trap = Trap(_test(request), _test(reply))
        return self._trap

    def close(self) -> None:
        for each in list(self._sockets):
            _close(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets |= {client, server}
                _thread(_Relay(self, client, server).run)

    def take(self, matches: Callable[[Trap], object]) -> Trap | None:
        trap = self._trap
        if trap is None or not matches(trap):
            return None
        return trap

    def spring(self, trap: Trap) -> bool:
        if self._trap is not trap:
            return False
        self._trap = None
        return True


class _Relay:
    """One client's connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._awaited: Trap | None = None

    def run(self) -> None:
        _thread(self._downstream)
        with suppress(OSError):
            while data := self._client.recv(1 << 20):
                self._awaited = None
                trap = self._proxy.take(lambda trap, data=data: trap.request(data))
                if trap is not None and trap.reply is None and self._proxy.spring(trap):
                    self._cut(trap)
                    return
                self._awaited = trap
                self._server.sendall(data)
        self._close()

    def _downstream(self) -> None:
        held = b""
        with suppress(OSError):
            while data := self._server.recv(1 << 20):
                trap = self._awaited
                if trap is None:
                    self._client.sendall(data)
                    continue
                held += data
                if not held.endswith(_COMMITTED):
                    continue
                if trap.reply is not None and trap.reply(held) and self._proxy.spring(trap):
                    self._cut(trap)
                    return
                self._client.sendall(held)
                held = b""
        self._close()

    def _cut(self, trap: Trap) -> None:
        self._close()
        trap.was_cut.set()

    def _close(self) -> None:
        _close(self._client)
        _close(self._server)


@contextmanager
def relaying(url: str) -> Iterator[Proxy]:
    """Run a proxy in front of the server of ``url`` for a block."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


_EXCHANGE = re.compile(
    rb"exchange_v1\(\s*\d+, \d+, '\{([\d,]*)\}'.*?, (\d+), (?:NULL|'[^']*'), (?:NULL|'[^']*'), (?:NULL|\d+), '\{[^']*'\)",
    re.DOTALL,
)


def exchange(*, outcomes: bool | None = None, claims: bool | None = None) -> Test:
    """Match an exchange by whether it writes outcomes and whether it asks for tasks (None: either)."""

    def matches(data: bytes) -> bool:
        found = _EXCHANGE.search(data)
        if found is None:
            return False
        return (outcomes is None or bool(found[1]) == outcomes) and (claims is None or (found[2] != b"0") == claims)

    return matches


def _test(what: Test | bytes) -> Test:
    return (lambda data: what in data) if isinstance(what, bytes) else what


def _thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, name="relay", daemon=True).start()


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
