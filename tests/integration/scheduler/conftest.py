"""Daemons in this process, on the test's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pipeline
from pipeline import PostgresBroker
from scheduler.daemon import Daemon
from tests.fixtures.schedules import Schedules, schedules_of

Start = Callable[[], Daemon]


@pytest.fixture
def schedules(database_url: str) -> Iterator[Schedules]:
    with schedules_of(database_url) as opened:
        yield opened


@pytest.fixture
def tick(broker: PostgresBroker) -> Any:
    """The actor that schedules send to."""

    @pipeline.actor(queue_name="ticks", broker=broker)
    def tick(*_: object) -> None:
        pass

    return tick


@pytest.fixture
def start(broker: PostgresBroker, tick: Any) -> Iterator[Start]:
    """Start a daemon; it is stopped when the test has ended."""
    daemons: list[Daemon] = []

    def begin() -> Daemon:
        daemons.append(Daemon(broker))
        daemons[-1].start()
        return daemons[-1]

    yield begin
    for daemon in daemons:
        daemon.stop()
