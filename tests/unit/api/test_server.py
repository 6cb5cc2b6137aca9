"""When a connection gets a thread, and how long a request may take to arrive."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest
from gunicorn.http.errors import NoMoreData

from api import server
from api.server import ImpatientSocket, is_whole

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"GET / HTTP/1.1\r\n\r", False),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (HEAD + b"Content-Length: 4\r\n\r\n", False),
        (HEAD + b"content-length:4\r\n\r\nabc", False),
        (HEAD + b"Content-Length: 4\r\n\r\nabcd", True),
        (HEAD + b"Content-Length: 0\r\n\r\n", True),
        (HEAD + b"Content-Length: 100000000\r\n\r\n", True),
        (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", True),
        (HEAD + b"Content-Length: -1\r\n\r\n", True),
        (HEAD + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n", True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", True),
    ],
)
def test_a_thread_is_given_once_it_would_not_wait(seen: bytes, expected: bool) -> None:
    assert is_whole(seen) is expected


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, ImpatientSocket]]:
    """A client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with client, ImpatientSocket.of(listener.accept()[0]) as connection:
            yield client, connection


def test_looking_takes_nothing_away_and_waits_for_nothing(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    client, connection = pair
    assert not connection.has_request()

    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert connection.recv(1, socket.MSG_PEEK) == b"G"  # it has arrived

    assert connection.has_request()
    assert connection.recv(100) == b"GET / HTTP/1.1\r\n\r\n"


def test_a_client_that_has_gone_is_left_to_a_thread(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    client, connection = pair
    client.close()
    assert connection.recv(1) == b""

    assert connection.has_request()


def test_so_is_one_that_goes_in_the_middle_of_a_request(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    """Else its connection would be readable, and never have a request, again and again."""
    client, connection = pair
    client.sendall(b"GET / HT")
    assert connection.recv(1, socket.MSG_PEEK) == b"G"
    assert not connection.has_request()

    client.close()
    readable, _, _ = select.select([connection], [], [], 5)

    assert readable == [connection]
    assert connection.has_request()


def test_nobody_is_woken_for_what_was_seen_already(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    client, connection = pair
    client.sendall(b"GET / HT")
    assert connection.recv(1, socket.MSG_PEEK) == b"G"
    assert not connection.has_request()

    assert select.select([connection], [], [], 0)[0] == []
    client.sendall(b"T")
    assert select.select([connection], [], [], 5)[0] == [connection]


def test_what_does_not_arrive_in_time_is_not_waited_for(
    pair: tuple[socket.socket, ImpatientSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, connection = pair
    monkeypatch.setattr(server, "_SECONDS", 0.05)
    connection.expect_request()
    client.sendall(b"x")

    assert connection.recv(10) == b"x"
    for _ in range(2):
        with pytest.raises(NoMoreData):
            connection.recv(10)
    assert connection.gettimeout() is None


def test_who_sends_much_gets_more_time(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    client, connection = pair
    before = connection.deadline
    sender = threading.Thread(target=client.sendall, args=(b"x" * 100_000,))
    sender.start()
    received = 0
    while received < 100_000:
        received += len(connection.recv(65_536))
    sender.join()

    assert connection.deadline - before == pytest.approx(100_000 / 8192)


def test_a_shorter_patience_of_the_server_itself_holds(pair: tuple[socket.socket, ImpatientSocket]) -> None:
    _, connection = pair
    connection.settimeout(0.01)

    with pytest.raises(TimeoutError):
        connection.recv(1)
