"""Schedules of actors that are declared here, on a broker bound to the test's database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pipeline
from pipeline import PostgresBroker
from tests.fixtures.process_broker import process_broker


@pipeline.actor(actor_name="scheduled_report", queue_name="reports", max_retries=0, broker=pipeline.get_broker())
def report(year: int = 2026, *, month: int = 1) -> str:
    return f"{year}-{month}"


@pipeline.actor(
    actor_name="unique_report",
    queue_name="reports",
    max_retries=0,
    unique_key=lambda *_: "one",
    broker=pipeline.get_broker(),
)
def unique_report() -> None: ...


@pytest.fixture
def bound(database_url: str) -> Iterator[PostgresBroker]:
    """The process's broker, on which the actors above are declared, bound to the test's database."""
    with process_broker(database_url) as broker:
        yield broker
