"""A daemon that is cut off from the database by a network that says nothing any more."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.fixtures.schedules import DaemonProcess, Schedules, due
from tests.fixtures.wait import eventually
from tests.integration.broker.proxy import proxied


def test_a_daemon_that_is_cut_off_loses_and_doubles_nothing(
    schedules: Schedules, start: Callable[..., Any], database_url: str
) -> None:
    with proxied(database_url) as proxy:
        remote: DaemonProcess = start(proxy.url)
        standby: DaemonProcess = start()
        eventually(lambda: len(schedules.daemons()) == 2, within=30)
        rows = [schedules.put(f"tick_{number}", missed="all") for number in range(10)]
        schedules.go_on("tick_0")

        proxy.fall_silent()
        eventually(lambda: "scheduler.database_away" in remote.log, within=10)
        proxy.cut()
        proxy.restore()
        eventually(lambda: "scheduler.database_back" in remote.log, within=10)
        standby.signal(signal.SIGKILL)  # so that nobody is left but the one who was away
        schedules.go_on(*(row.name for row in rows))

        for row in rows:
            firings = schedules.firings(row.name)
            assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
            assert {firing.outcome for firing in firings} == {"f"}
            assert max(firing.fired_at - firing.due_at for firing in firings[1:]) < timedelta(seconds=5)
        schedules.assert_tasks_are_those_of_firings()
        remote.kill()
