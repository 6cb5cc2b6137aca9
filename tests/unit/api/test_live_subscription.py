"""Queues between the listener and clients: nobody is held up, and nothing is missing without a word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from api.live import stream as streams
from api.live.changes import Position
from api.live.client import Client
from api.live.frames import HEARTBEAT, opening
from api.live.live import Live, TooManyStreams
from api.live.stream import _Stream
from api.live.subscription import _MOST_WAITING, Event, Follower, Subscription, Watcher
from pipeline.settings import Settings
from tests.fixtures.wait import eventually


def event(number: int, *, is_last: bool = False) -> Event:
    return Event(f"{number}\n\n".encode(), is_last=is_last)


def waiting(subscription: Subscription) -> list[Event]:
    found = []
    while (each := subscription.take(0)) is not None:
        found.append(each)
    return found


def test_events_come_in_their_order() -> None:
    subscription = Watcher(1)
    for number in range(3):
        subscription.put(event(number))

    assert waiting(subscription) == [event(0), event(1), event(2)]
    assert subscription.take(0.01) is None


def test_whoever_waits_is_woken() -> None:
    subscription, found = Subscription(), []
    thread = threading.Thread(target=lambda: found.append(subscription.take(10)))
    thread.start()
    subscription.put(event(1))
    thread.join(5)

    assert found == [event(1)]


def test_a_follower_that_is_too_far_behind_is_told_to_begin_anew() -> None:
    follower = Follower(Position(datetime.now(UTC), 1, 0))
    follower.has_begun = True
    for number in range(_MOST_WAITING):
        follower.put(event(number))
    assert (follower.has_begun, follower.lost) == (True, "")

    follower.put(event(99))

    assert (follower.has_begun, follower.lost, follower.position) == (False, "slow", None)
    assert waiting(follower) == [event(99)]


def test_a_watcher_that_is_too_far_behind_gets_the_newest_states() -> None:
    watcher = Watcher(1)
    for number in range(_MOST_WAITING + 3):
        watcher.put(event(number))

    assert waiting(watcher) == [event(number) for number in range(3, _MOST_WAITING + 3)]


# --- the client's side ------------------------------------------------------------------------------------------------


@pytest.fixture
def live() -> Iterator[Live]:
    """Live views whose listener nobody starts."""
    made = Live(Settings(database_url="postgresql://nobody@nowhere.example/none", http_threads=4))
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the server's end and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Look often."""
    monkeypatch.setattr(streams, "_LOOK_SECONDS", 0.01)
    return monkeypatch


def test_a_heartbeat_is_written_while_nothing_happens(live: Live, quick: pytest.MonkeyPatch) -> None:
    quick.setattr(streams, "_HEARTBEAT_SECONDS", 0.05)
    frames = _Stream(live, Subscription(), Client({})).frames()

    assert next(frames).startswith(b"retry: ")
    assert [next(frames), next(frames)] == [HEARTBEAT, HEARTBEAT]


def test_heartbeats_come_every_ten_to_fifteen_seconds() -> None:
    assert 10 <= streams._HEARTBEAT_SECONDS <= 15


def test_a_stream_ends_after_the_last_event(live: Live) -> None:
    watcher = Watcher(1)
    for each in (event(1), event(2, is_last=True), event(3)):
        watcher.put(each)

    assert list(_Stream(live, watcher, Client({})).frames())[1:] == [event(1).frame, event(2).frame]


def test_a_stream_ends_when_the_process_is_to_end(live: Live, quick: pytest.MonkeyPatch) -> None:
    frames = _Stream(live, Subscription(), Client({})).frames()
    next(frames)
    live.close()

    assert list(frames) == []


def test_a_stream_ends_after_a_while_so_that_its_client_is_asked_again(live: Live, quick: pytest.MonkeyPatch) -> None:
    quick.setattr(streams, "_LONGEST_SECONDS", 0.1)

    assert len(list(_Stream(live, Subscription(), Client({})).frames())) == 1


@pytest.mark.parametrize("how", ["closed", "half closed"])
def test_a_client_that_has_left_is_noticed(
    live: Live, ends: tuple[socket.socket, socket.socket], quick: pytest.MonkeyPatch, how: str
) -> None:
    ours, theirs = ends
    client = Client({"gunicorn.socket": ours})
    frames = _Stream(live, Subscription(), client).frames()
    next(frames)
    assert not client.has_left

    theirs.close() if how == "closed" else theirs.shutdown(socket.SHUT_WR)

    assert list(frames) == []


def test_a_socket_that_was_closed_here_counts_as_left(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = ends
    client = Client({"gunicorn.socket": ours})
    ours.close()

    assert client.has_left
    assert not client.is_ready(0)


def test_a_slow_client_is_told_to_begin_anew_and_holds_nobody_up(
    live: Live, ends: tuple[socket.socket, socket.socket], quick: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    follower, other = Follower(), Follower()

    def write() -> None:
        with suppress(OSError):  # the client is gone in the end
            for piece in _Stream(live, follower, Client({"gunicorn.socket": ours})).frames():
                ours.sendall(piece)

    writer = threading.Thread(target=write)
    writer.start()
    large = Event(b"x" * 100_000)

    follower.has_begun = True
    for _ in range(100):  # nobody reads at the other end
        follower.put(large)
        other.put(large)
        assert other.take(0) == large

    assert follower.lost == "slow"
    theirs.shutdown(socket.SHUT_RDWR)
    writer.join(10)
    assert not writer.is_alive()


def test_a_client_that_takes_nothing_is_left(
    live: Live, ends: tuple[socket.socket, socket.socket], quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(streams, "_STUCK_SECONDS", 0.2)
    ours, _ = ends
    subscription, is_over = Subscription(), threading.Event()

    def write() -> None:
        for piece in _Stream(live, subscription, Client({"gunicorn.socket": ours})).frames():
            ours.sendall(piece)
        is_over.set()

    threading.Thread(target=write, daemon=True).start()

    def feed() -> bool:
        subscription.put(Event(b"x" * 100_000))
        return is_over.is_set()

    eventually(feed, within=10)


def test_a_stream_begins_with_how_long_to_wait_before_connecting_again(live: Live) -> None:
    found = {next(_Stream(live, Subscription(), Client({})).frames()) for _ in range(20)}

    assert len(found) > 1  # not everybody at once
    assert opening(1) == b"retry: 1\n\n"


# --- how many ---------------------------------------------------------------------------------------------------------


def test_no_more_than_half_of_the_threads_are_given_to_who_watches(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live._listener, "add", lambda _: None)
    first, second, third = Subscription(), Subscription(), Subscription()
    live.join(first)
    live.join(second)

    with pytest.raises(TooManyStreams, match="2 clients"):
        live.join(third)

    live.leave(first)
    live.leave(first)
    live.join(third)
    with pytest.raises(TooManyStreams):
        live.join(first)


@pytest.mark.parametrize(("threads", "streams", "most"), [(16, None, 8), (1, None, 0), (16, 3, 3), (16, 0, 0)])
def test_a_setting_says_how_many_may_watch(threads: int, streams: int | None, most: int) -> None:
    assert Settings(http_threads=threads, http_streams=streams).most_streams == most
