"""The relay that counts what is said to PostgreSQL."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from tests.benchmarks.relay import Relay, relayed
from tests.fixtures.wait import eventually


def counted(relay: Relay) -> tuple[int, int]:
    return relay.round_trips, relay.transactions


def test_statements_and_transactions_are_counted_and_the_log_in_is_not(database_url: str) -> None:
    with relayed(database_url) as relay:
        with closing(psycopg2.connect(relay.url)) as connection, connection.cursor() as cursor:
            assert counted(relay) == (0, 0)
            connection.autocommit = True
            cursor.execute("SELECT 1")
            cursor.execute("SELECT %s", ("x" * 200_000,))
            assert cursor.fetchone() == ("x" * 200_000,)
            assert counted(relay) == (2, 2)

            connection.autocommit = False
            cursor.execute("SELECT 1")
            cursor.execute("SELECT 2")
            assert counted(relay) == (5, 2)  # BEGIN is one, too
            connection.commit()
            assert counted(relay) == (6, 3)
            with pytest.raises(psycopg2.Error):
                cursor.execute("SELECT 1/0")
            connection.rollback()
            assert counted(relay) == (9, 4)

        with closing(psycopg2.connect(relay.url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 'the second connection'")

        assert [each.round_trips for each in relay.conversations] == [9, 2]
        assert [each.says("second") for each in relay.conversations] == [False, True]


def test_connections_end_with_the_relay(database_url: str) -> None:
    with relayed(database_url) as relay:
        connection = psycopg2.connect(relay.url)
    with closing(connection), connection.cursor() as cursor, pytest.raises(psycopg2.Error):
        cursor.execute("SELECT 1")
    eventually(lambda: not any(thread.is_alive() for thread in relay._threads))
