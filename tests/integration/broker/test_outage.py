"""The database goes away and comes back."""

from __future__ import annotations

import threading
import time

import dramatiq
import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker, current_task
from tests.fixtures.broker import global_broker, working
from tests.fixtures.wait import eventually

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2"


@pytest.fixture
def noop(proxied_broker) -> dramatiq.Actor:
    @dramatiq.actor
    def noop() -> None: ...

    return noop


# --- at send ----------------------------------------------------------------------------------------------------------


def test_a_send_says_within_five_seconds_that_nobody_answers() -> None:
    with global_broker(PostgresBroker(url=NOWHERE)):

        @dramatiq.actor
        def noop() -> None: ...

        began = time.monotonic()
        with pytest.raises(dramatiq.errors.ConnectionError, match="127.0.0.1:1"):
            noop.send()
        assert time.monotonic() - began < 6


def test_a_send_on_connections_that_broke_says_so_within_five_seconds(proxy, noop, rows) -> None:
    noop.send()
    proxy.cut()

    began = time.monotonic()
    with pytest.raises(dramatiq.errors.ConnectionError):
        noop.send()
    assert time.monotonic() - began < 6
    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


def test_a_send_to_a_server_that_takes_connections_and_never_answers_ends_too(proxy, noop) -> None:
    proxy.fall_silent()

    began = time.monotonic()
    with pytest.raises(dramatiq.errors.ConnectionError):
        noop.send()
    assert time.monotonic() - began < 8


def test_a_send_on_an_open_connection_to_a_server_that_falls_silent_ends_too(proxy, noop, rows) -> None:
    """Nothing is wrong with the connection, so libpq would wait for ever. It may or may not have been sent."""
    noop.send()
    proxy.fall_silent()

    began = time.monotonic()
    with pytest.raises(dramatiq.errors.ConnectionError):
        noop.send()
    assert 4 < time.monotonic() - began < 8
    proxy.restore()
    noop.send()
    assert rows("SELECT count(*) BETWEEN 2 AND 3 FROM pipeline.task") == [(True,)]


def test_a_send_survives_a_restart_of_the_database(proxy, noop, rows) -> None:
    noop.send()
    proxy.cut()
    threading.Timer(0.5, proxy.restore).start()
    noop.send()

    assert rows("SELECT count(*) FROM pipeline.task") == [(2,)]


@pytest.mark.parametrize("many", [1, 100])
def test_a_send_whose_answer_was_lost_is_neither_lost_nor_doubled(proxy, proxied_broker, noop, rows, many) -> None:
    """**R** The server ran the statement; nobody told us."""
    noop.send()  # the lane is known, so the next statement is the enqueue itself
    messages = [noop.message() for _ in range(many)]
    proxy.lose_next_answer()
    proxied_broker.send_many(messages)

    assert proxy.has_lost.is_set()
    assert rows("SELECT count(*), count(DISTINCT message_id) FROM pipeline.task") == [(many + 1, many + 1)]
    assert rows("SELECT count(*) FROM pipeline.ready") == [(many + 1,)]


def test_a_joined_send_raises_the_callers_own_error_and_is_never_repeated(proxy, proxied_broker, noop) -> None:
    noop.send()
    connection = psycopg2.connect(proxy.url)
    with pipeline.enlist(connection):
        noop.send()
        proxy.cut()
        with pytest.raises(psycopg2.Error):
            noop.send()
    connection.close()


# --- at work ----------------------------------------------------------------------------------------------------------


def test_a_worker_waits_for_the_database_and_goes_on(proxy, proxied_broker, noop, rows) -> None:
    with working(proxied_broker):
        noop.send().get_result(block=True)
        proxy.cut()
        eventually(lambda: rows("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == [(1,)])
        proxy.restore()

        assert noop.send().get_result(block=True, timeout=20_000) is None
    assert rows("SELECT count(*) FROM pipeline.worker") == [(1,)]  # the same one, with a new session


def test_a_worker_started_before_its_database_begins_when_it_is_there(proxy, proxied_broker, noop, rows) -> None:
    proxy.cut()
    with working(proxied_broker):
        proxy.restore()
        assert noop.send().get_result(block=True, timeout=20_000) is None


def test_a_task_that_ends_while_the_database_is_away_is_concluded_once_when_it_is_back(
    proxy, proxied_broker, rows
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow() -> int:
        has_begun.set()
        may_end.wait(20)
        return 7

    message = slow.message()
    with working(proxied_broker):
        proxied_broker.enqueue(message)
        assert has_begun.wait(5)
        proxy.cut()
        may_end.set()
        eventually(lambda: not proxied_broker.hub.is_connected)
        proxy.restore()
        eventually(lambda: rows("SELECT 1 FROM pipeline.attempt"), within=10)

    assert rows("SELECT outcome, result::text FROM pipeline.attempt") == [("s", "7")]


def test_waiting_for_a_result_outlasts_a_restart(proxy, proxied_broker, rows) -> None:
    may_end = threading.Event()

    @dramatiq.actor
    def slow() -> int:
        may_end.wait(20)
        return 7

    with working(proxied_broker):
        message = slow.send()
        threading.Timer(0.3, proxy.cut).start()
        threading.Timer(0.8, proxy.restore).start()
        threading.Timer(1.0, may_end.set).start()
        assert message.get_result(block=True, timeout=20_000) == 7


def test_asking_for_a_result_after_a_restart_works_at_once(proxy, proxied_broker, noop) -> None:
    with working(proxied_broker):
        message = noop.send()
        message.get_result(block=True)
    for _ in range(3):
        proxied_broker.pool.putconn(proxied_broker.pool.getconn())
    proxy.cut()
    proxy.restore()

    assert message.get_result() is None


def test_asking_for_a_result_while_the_database_is_away_is_a_connection_error(proxy, noop) -> None:
    message = noop.send()
    proxy.cut()

    with pytest.raises(dramatiq.errors.ConnectionError):
        message.get_result()


def test_a_transactional_task_after_a_restart_does_not_pay_for_it(proxy, proxied_broker, rows) -> None:
    """The engine's idle connections are broken, too; a task with no retries must not fail because of them."""

    @dramatiq.actor(transactional=True, max_retries=0)
    def ask() -> int:
        with current_task().cursor() as cursor:
            cursor.execute("SELECT 7")
            return cursor.fetchone()[0]

    with working(proxied_broker, threads=2):
        assert ask.send().get_result(block=True) == 7
        proxy.cut()
        eventually(lambda: not proxied_broker.hub.is_connected)
        proxy.restore()
        assert ask.send().get_result(block=True, timeout=20_000) == 7


@pytest.mark.untraced
def test_a_time_limit_holds_while_the_database_is_away(proxy, proxied_broker) -> None:
    caught = threading.Event()
    has_begun, never = threading.Event(), threading.Event()

    @dramatiq.actor(time_limit=1_500, max_retries=0)
    def hang() -> None:
        has_begun.set()
        try:
            while not never.wait(0.02):
                pass
        except dramatiq.middleware.TimeLimitExceeded:
            caught.set()
            raise

    with working(proxied_broker):
        hang.send()
        assert has_begun.wait(5)
        proxy.cut()
        try:
            assert caught.wait(8)
        finally:
            never.set()
            proxy.restore()
            eventually(lambda: not proxied_broker.hub._held, within=10)
