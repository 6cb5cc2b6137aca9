"""Exchanges are parsed and planned once per session, where the session is the worker's own."""

from __future__ import annotations

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.db.connection import connect, is_direct
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker, working
from tests.fixtures.wait import eventually

_EXCHANGES = (
    "SELECT DISTINCT split_part(query, ' ', 1) FROM pg_stat_activity "
    "WHERE query ~ 'exchange_v1' AND datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_connection_to_the_server_is_direct(database_url) -> None:
    connection = connect(database_url)
    assert is_direct(connection)
    connection.close()


@pytest.mark.parametrize(("listen", "verb"), [(True, "EXECUTE"), (False, "SELECT")])
def test_only_a_worker_that_need_not_fear_a_pooler_prepares(database_url, rows, listen, verb) -> None:
    settings = Settings(database_url=database_url, listen=listen)
    with global_broker(PostgresBroker(settings=settings)) as broker:
        broker.declare_queue("default")
        with working(broker):
            eventually(lambda: rows(_EXCHANGES) == [(verb,)])


def test_a_function_that_is_replaced_meanwhile_is_the_new_one(database_url, broker, rows) -> None:
    @dramatiq.actor(store_results=True)
    def noop() -> str:
        return "done"

    with working(broker):
        assert noop.send().get_result(block=True) == "done"
        ((definition,),) = rows("SELECT pg_get_functiondef('pipeline.exchange_v1'::regproc)")
        rows(definition)
        assert noop.send().get_result(block=True) == "done"
