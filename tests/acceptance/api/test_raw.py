"""Bytes that no client of good will sends, to a real server."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from tests.fixtures.web import serving

#: Each with the statuses that are an answer to it. Those without a body of ours are gunicorn's.
REQUESTS: list[tuple[bytes, set[int]]] = [
    (b"GET /api/v1/tasks/\xff\xfe HTTP/1.1", {400, 404}),
    (b"GET /api/v1/tasks?actor=\xc3( HTTP/1.1", {400}),
    (b"GET /api/v1/tasks?actor=x\x00y HTTP/1.1", {400}),
    (b"GET /api/v1/tasks?actor=" + b"x" * 9_000 + b" HTTP/1.1", {400, 414}),
    (b"GET /../../etc/passwd HTTP/1.1", {400, 404}),
    (b"GET http://evil.example/api/v1/nothing HTTP/1.1", {400, 404}),
    (b"GET /api/v1/tasks HTTP/9.9", {400, 505}),
    (b"BREW /api/v1/tasks HTTP/1.1", {405}),
    (b"GET /api/v1/tasks HTTP/1.1\r\nX: " + b"x" * 20_000, {400, 431}),
    (b"GET /api/v1/tasks HTTP/1.1\r\nX-A: 1\r\n Set-Cookie: a=b", {400}),
    (b"GET /api/v1/tasks HTTP/1.1\r\nAccept: \xff\xff, */*", {200, 400}),
    (b"POST /api/tasks/x/cancel/ HTTP/1.1\r\nContent-Length: 100000000000", {413}),
    (b"POST /api/tasks/x/cancel/ HTTP/1.1\r\nContent-Length: -1", {400}),
    (b"POST /api/tasks/x/cancel/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", {400}),
]


def status_of(address: str, request: bytes) -> tuple[int, bytes]:
    """Send a request as it is; return the status and all of the answer."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=60) as client:
        client.sendall(request + b"\r\nHost: x.example\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.timeout(300)
def test_whatever_is_sent_is_answered_or_refused_and_the_server_goes_on(database_url: str) -> None:
    with serving(database_url) as web:
        for request, statuses in REQUESTS:
            status, answer = status_of(web, request)

            assert status in statuses, (request[:80], answer[:300])
            assert not any(word in answer for word in (b"Traceback", b"psycopg2", b"root:")), request[:80]
            assert b"\r\nSet-Cookie" not in answer, request[:80]
        assert status_of(web, b"GET /api/v1/tasks HTTP/1.1")[0] == 200
