"""A daemon that stands still, wherever it stands, keeps nobody from firing, and fires nothing twice when it goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2

from tests.fixtures.schedules import DaemonProcess, Schedules, due
from tests.fixtures.wait import eventually

#: A standby takes over within.
TAKEOVER = timedelta(seconds=5)


def assert_each_once(schedules: Schedules, name: str, row: Any) -> None:
    """All that was due was fired, each once, and none of it much too late."""
    firings = schedules.firings(name)
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    assert {firing.outcome for firing in firings} == {"f"}
    assert max(firing.fired_at - firing.due_at for firing in firings[1:]) < TAKEOVER
    schedules.assert_tasks_are_those_of_firings()


def test_a_daemon_that_is_stopped_is_replaced_by_a_standby(schedules: Schedules, start: Callable[..., Any]) -> None:
    first, _standby = start(), start()
    eventually(lambda: len(schedules.daemons()) == 2, within=30)
    row = schedules.put("tick", missed="all")
    schedules.go_on("tick")

    first.signal(signal.SIGSTOP)
    schedules.go_on("tick", seconds=2, within=TAKEOVER.total_seconds())
    first.signal(signal.SIGCONT)
    schedules.go_on("tick", seconds=2)

    assert_each_once(schedules, "tick", row)


def test_a_daemon_that_is_stopped_inside_its_statement_holds_nothing(
    schedules: Schedules, start: Callable[..., Any], database_url: str
) -> None:
    """The server goes on with the statement, whoever waits for its answer."""
    first: DaemonProcess = start()
    eventually(schedules.daemons, within=30)
    with closing(psycopg2.connect(database_url)) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE pipeline.ready IN SHARE MODE")  # nothing can be enqueued
        row = schedules.put("tick", missed="all")
        eventually(lambda: schedules.rows("SELECT 1 FROM pg_locks WHERE NOT granted"), within=10)
        first.signal(signal.SIGSTOP)
        start()
        eventually(lambda: len(schedules.daemons()) == 2, within=30)
        assert schedules.firings("tick") == []

    eventually(lambda: schedules.firings("tick"), within=5)
    schedules.go_on("tick", seconds=1, within=TAKEOVER.total_seconds())
    first.signal(signal.SIGCONT)
    schedules.go_on("tick", seconds=2)

    firings = schedules.firings("tick")
    assert firings[0].fired_by.endswith(first.by), "what it was at when it was stopped"
    assert not firings[1].fired_by.endswith(first.by)
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    schedules.assert_tasks_are_those_of_firings()


def test_sigterm_ends_it_within_two_seconds_and_it_says_so(schedules: Schedules, start: Callable[..., Any]) -> None:
    daemon: DaemonProcess = start()
    eventually(schedules.daemons, within=30)
    schedules.put("tick")
    schedules.go_on("tick")

    daemon.signal(signal.SIGTERM)

    assert daemon.process is not None
    assert daemon.process.wait(2) == 0, daemon.log
    assert [state for state, _ in schedules.daemons()] == ["stopped"]
    assert "scheduler.stopped" in daemon.log


def test_two_that_start_at_the_same_moment_on_an_empty_database_fire_each_instant_once(
    schedules: Schedules, start: Callable[..., Any]
) -> None:
    rows = [schedules.put(f"tick_{number}", missed="all") for number in range(5)]
    start()
    start()

    eventually(lambda: len(schedules.daemons()) == 2, within=30)
    schedules.go_on(*(row.name for row in rows))

    for row in rows:
        firings = schedules.firings(row.name)
        assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    assert [state for state, _ in schedules.daemons()] == ["alive", "alive"]
