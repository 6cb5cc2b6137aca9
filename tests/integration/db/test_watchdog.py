"""The watchdog hangs up on who is late, and on nobody else."""

from __future__ import annotations

import os
import threading
import time

import psycopg2
import pytest

from pipeline.db.pool import Pool
from pipeline.db.watchdog import Watchdog
from tests.fixtures.wait import eventually


@pytest.fixture
def pool(database_url):
    pool = Pool(lambda: database_url)
    yield pool
    pool.closeall()


def seconds_of(call) -> float:
    began = time.monotonic()
    with pytest.raises(psycopg2.OperationalError):
        call()
    return time.monotonic() - began


def sleep(pool, seconds: float, within: float | None) -> None:
    with pool.connection(within) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", (seconds,))


def test_a_statement_that_takes_too_long_loses_its_connection(pool) -> None:
    assert 0.4 < seconds_of(lambda: sleep(pool, 3, within=0.5)) < 2.5

    sleep(pool, 0, within=0.5)  # on a new one


def test_a_statement_without_a_limit_takes_what_it_takes(pool) -> None:
    late = threading.Thread(target=lambda: seconds_of(lambda: sleep(pool, 3, within=0.3)))
    late.start()
    sleep(pool, 1.5, within=None)
    sleep(pool, 0.5, within=20)
    late.join()


def test_a_connection_that_was_given_back_in_time_is_left_alone(pool) -> None:
    sleep(pool, 0, within=0.3)
    sleep(pool, 1, within=None)  # the same connection, past the deadline


def test_its_thread_ends_when_nobody_needs_it_and_starts_again(pool) -> None:
    for _ in range(2):
        assert seconds_of(lambda: sleep(pool, 3, within=0.2)) < 2.5
        eventually(lambda: pool._watchdog._thread is None)


def test_a_child_has_a_watchdog_of_its_own(pool) -> None:
    sleep(pool, 0, within=5)
    child = os.fork()
    if child == 0:
        try:
            late = seconds_of(lambda: sleep(pool, 3, within=0.3))
        except BaseException:  # noqa: BLE001 - no traceback of the child belongs into the parent's report
            os._exit(1)
        os._exit(0 if late < 2.5 else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_connection_that_is_closed_meanwhile_is_nothing_to_it(pool) -> None:
    watchdog = Watchdog()
    connection = pool.getconn()
    token = watchdog.watch(connection, 0)
    connection.close()
    watchdog._look()
    watchdog.leave(token)
    pool.putconn(connection)
