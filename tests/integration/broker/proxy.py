"""A network that fails when a test wants it to: a TCP proxy in front of PostgreSQL."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from pipeline.db.dsn import Dsn, Host

_CHUNK = 65_536


class Proxy:
    """Forwards until it is told to cut, to keep silent, or to lose one answer."""

    def __init__(self, url: str) -> None:
        dsn = Dsn.parse(url)
        self._server = (dsn.hosts[0].name, int(dsn.hosts[0].port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = replace(dsn, hosts=(Host("127.0.0.1", str(self._listener.getsockname()[1])),)).libpq
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_up = True
        self._speaks = threading.Event()
        self._speaks.set()
        self._lose: bytes | None = None
        self.has_lost = threading.Event()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """Close all connections and every new one."""
        with self._lock:
            self._is_up = False
            for each in self._open:
                _shut(each)

    def restore(self) -> None:
        """Forward again; connections that were silenced get what was held back."""
        with self._lock:
            self._is_up = True
        self._speaks.set()

    def fall_silent(self) -> None:
        """Keep everything open and forward nothing."""
        self._speaks.clear()

    def lose_answer_to(self, statement: bytes) -> None:
        """Let the server run the next such statement, and cut that connection instead of bringing the answer."""
        self.has_lost.clear()
        self._lose = statement + b"\0"

    def lose_next_answer(self) -> None:
        """The same for whatever is asked next."""
        self.has_lost.clear()
        self._lose = b""

    def close(self) -> None:
        self.cut()
        self._speaks.set()
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._speaks.wait()
        if not self._is_up:
            client.close()
            return
        server = socket.create_connection(self._server)
        with self._lock:
            self._open |= {client, server}
        is_doomed = threading.Event()
        back = threading.Thread(target=self._pump, args=(server, client, is_doomed, True), name="proxy", daemon=True)
        back.start()
        self._pump(client, server, is_doomed, False)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket, is_doomed: threading.Event, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._speaks.wait()
                if is_answer and is_doomed.is_set():
                    self.has_lost.set()
                    break
                if not is_answer and self._lose is not None and self._lose in data:
                    self._lose = None
                    is_doomed.set()
                target.sendall(data)
        _shut(source)
        _shut(target)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Put a proxy in front of a database for a block."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
