"""The database away from a daemon: what was missed is the policy's business, and nothing else is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from scheduler import database
from scheduler.daemon import Daemon
from tests.fixtures.broker import global_broker
from tests.fixtures.logs import captured_logs
from tests.fixtures.schedules import Schedules, assert_policies_decided, due, put_one_of_each_policy
from tests.fixtures.wait import eventually
from tests.integration.broker.proxy import Proxy, proxied

Start = Callable[[], Daemon]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with proxied(database_url) as between:
        yield between


@pytest.fixture
def broker(proxy: Proxy) -> Iterator[PostgresBroker]:
    """A broker whose network fails when the test wants it to."""
    with global_broker(PostgresBroker(settings=Settings(database_url=proxy.url))) as made:
        yield made


def test_an_outage_is_told_once_and_the_policies_decide_about_what_was_missed(
    schedules: Schedules, start: Start, proxy: Proxy
) -> None:
    rows = put_one_of_each_policy(schedules, grace_seconds=1)
    with captured_logs("scheduler") as logs:
        start()
        schedules.go_on(*rows, seconds=0)
        proxy.cut()
        cut_at = schedules.now()
        eventually(lambda: schedules.now() > cut_at + timedelta(seconds=5))
        proxy.restore()
        schedules.go_on(*rows)

    events = [line["event"] for line in logs]
    assert events.count("scheduler.database_away") == events.count("scheduler.database_back") == 1
    assert_policies_decided(schedules, rows, grace=1, away=5)


def test_a_lost_answer_doubles_nothing(schedules: Schedules, start: Start, proxy: Proxy) -> None:
    row = schedules.put("tick", missed="all")
    start()
    schedules.go_on("tick", seconds=0)

    for _ in range(2):
        proxy.lose_next_answer()
        assert proxy.has_lost.wait(5)
        schedules.go_on("tick", seconds=0)

    firings = schedules.firings("tick")
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    schedules.assert_tasks_are_those_of_firings()


def test_it_stops_within_two_seconds_also_while_the_database_is_silent(
    schedules: Schedules, start: Start, proxy: Proxy
) -> None:
    schedules.put("tick")
    daemon = start()
    schedules.go_on("tick", seconds=0)
    proxy.fall_silent()
    before = schedules.now()
    eventually(lambda: schedules.now() > before + timedelta(seconds=1.2))  # a look and a firing hang by now

    began = time.monotonic()
    daemon.stop()

    assert time.monotonic() - began < 2
    proxy.cut()


def test_a_silent_server_is_given_up(
    schedules: Schedules, start: Start, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_STATEMENT_SECONDS", 0.5)
    row = schedules.put("tick", missed="all")
    with captured_logs("scheduler") as logs:
        start()
        schedules.go_on("tick", seconds=0)
        proxy.fall_silent()
        eventually(lambda: [line for line in logs if line["event"] == "scheduler.database_away"], within=15)
        proxy.restore()
        schedules.go_on("tick", seconds=0)

    firings = schedules.firings("tick")
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    schedules.assert_tasks_are_those_of_firings()
