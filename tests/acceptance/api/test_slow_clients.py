"""A real web server, and clients that send slowly, or not at all."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.fixtures.wait import eventually
from tests.fixtures.web import serving

#: Many more than the server has threads.
CLIENTS = 24
PARTS = {
    "nothing": b"",
    "half a line": b"GET /healthz HT",
    "a head without its end": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
    "a head without its body": b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with four threads; whether it is alive needs no database."""
    with serving("postgresql://nobody@127.0.0.1:1/none", tmp_path_factory.mktemp("web"), threads=4) as web:
        eventually(lambda: is_alive(web.address), within=30)
        yield web.address


def is_alive(address: str) -> bool:
    with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:  # noqa: S310 - our own address
        return bool(json.load(answer) == {"status": "alive"})


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sent", PARTS)
def test_those_who_send_do_not_starve_others(web: str, sent: str) -> None:
    """gunicorn's own worker answers nobody else while four of them are connected."""
    with ExitStack() as connections:
        slow = [connections.enter_context(connect(web)) for _ in range(CLIENTS)]
        for connection in slow:
            connection.sendall(PARTS[sent])
        began = time.monotonic()

        assert all(is_alive(web) for _ in range(20))

        assert time.monotonic() - began < 4


@pytest.mark.timeout(120)
def test_a_slow_client_is_answered_if_it_comes_to_an_end(web: str) -> None:
    with connect(web) as connection:
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"alive"}')


@pytest.mark.timeout(120)
def test_connections_are_used_again_and_requests_may_come_together(web: str) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(web) as connection:
        connection.sendall(request * 3 + last)
        assert connection.makefile("rb").read().count(b"HTTP/1.1 200 ") == 4

    parts = urlsplit(web)
    client = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    for _ in range(3):
        client.request("GET", "/healthz")
        with client.getresponse() as answer:
            assert answer.status == 200
            answer.read()
    client.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_bodies_of_all_sizes_arrive(web: str, size: int) -> None:
    """Those above the limit are refused, and the connection is closed; nobody hangs."""
    head = f"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    with connect(web) as connection:
        connection.sendall(head.encode() + b"x" * min(size, 200_000))
        status = connection.recv(100).split(b" ")[1]

    assert status == b"503"
