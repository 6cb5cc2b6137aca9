"""Somebody else's project: plain Dramatiq on our broker; and a network that can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker
from tests.integration.broker.proxy import Proxy, proxied

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy in front of the test's database."""
    with proxied(database_url) as made:
        yield made


@pytest.fixture
def proxied_broker(proxy: Proxy) -> Iterator[PostgresBroker]:
    """A broker that reaches the database through the proxy only."""
    with global_broker(PostgresBroker(settings=Settings(database_url=proxy.url, **QUICK))) as made:
        yield made


@pytest.fixture
def make_broker(database_url: str) -> Iterator[Callable[..., PostgresBroker]]:
    """Make brokers as a stranger does, the latest of which is Dramatiq's global one."""
    with ExitStack() as brokers:
        yield lambda **options: brokers.enter_context(global_broker(PostgresBroker(url=database_url, **options)))


@pytest.fixture
def history(rows: Rows) -> Callable[[], list[tuple[int, int, str]]]:
    """List run, attempt and outcome of everything that was concluded, task by task."""
    return lambda: rows(
        "SELECT h.run, h.attempt, h.outcome FROM pipeline.attempt_history h "
        "JOIN pipeline.task_status s USING (task_id) ORDER BY s.id, h.run"
    )
