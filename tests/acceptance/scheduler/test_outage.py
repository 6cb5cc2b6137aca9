"""A real server that is away for half a minute: the schedules say what becomes of what was missed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import embedded
from pipeline.db.migrate import migrate
from tests.fixtures.schedules import (
    DaemonProcess,
    assert_policies_decided,
    put_one_of_each_policy,
    schedules_of,
)
from tests.fixtures.wait import eventually

SECONDS = 30
GRACE = 15


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_policies_decide_what_becomes_of_half_a_minute_without_a_database(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    home = tmp_path / "postgres"
    server = embedded.start(home)
    migrate(server.url)
    daemons: list[DaemonProcess] = [start(server.url) for _ in range(2)]
    with schedules_of(server.url) as schedules:
        eventually(lambda: len(schedules.daemons()) == 2, within=30)
        rows = put_one_of_each_policy(schedules, grace_seconds=GRACE)
        schedules.go_on(*rows)

    server.stop()
    threading.Event().wait(SECONDS)

    with embedded.start(home) as server, schedules_of(server.url) as schedules:
        schedules.go_on(*rows, within=20)
        assert_policies_decided(schedules, rows, grace=GRACE, away=SECONDS)
        for daemon in daemons:
            assert daemon.log.count("scheduler.database_away") == daemon.log.count("scheduler.database_back") == 1
            daemon.kill()
