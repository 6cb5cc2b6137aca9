"""A business table, and both libraries that write to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from pipeline import PostgresBroker
from pipeline.db.dsn import Dsn
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker
from tests.integration.broker.proxy import Proxy, proxied

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def booked(rows: Rows) -> Callable[[], list[str]]:
    """Make the table ``booking``; list what stands in it."""
    rows("CREATE TABLE booking (what text PRIMARY KEY)")
    return lambda: [what for (what,) in rows("SELECT what FROM booking ORDER BY what")]


@pytest.fixture
def tasks(rows: Rows) -> Callable[[], list[str]]:
    """List the first argument of each task of the actor ``follow``."""
    return lambda: [x for (x,) in rows("SELECT args->>0 FROM pipeline.task_status WHERE actor = 'follow' ORDER BY 1")]


@pytest.fixture
def follow(broker: PostgresBroker, booked: Any) -> dramatiq.Actor:
    """The actor whose tasks the tests send; its queue and lane exist."""

    @dramatiq.actor(max_retries=0)
    def follow(what: str) -> str:
        return what

    broker.sender.ensure_lanes([("default", 0)])
    return follow


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = create_engine(Dsn.parse(database_url).sqlalchemy, poolclass=NullPool)
    yield made
    made.dispose()


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with proxied(database_url) as made:
        yield made


@pytest.fixture
def proxied_broker(proxy: Proxy) -> Iterator[PostgresBroker]:
    """A broker that reaches the database through the proxy only."""
    with global_broker(PostgresBroker(settings=Settings(database_url=proxy.url, **QUICK))) as made:
        yield made
