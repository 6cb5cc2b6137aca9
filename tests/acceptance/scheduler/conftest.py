"""Daemons in processes of their own, on the test's database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.schedules import DaemonProcess, Schedules, schedules_of

Start = Callable[..., DaemonProcess]


@pytest.fixture
def schedules(database_url: str) -> Iterator[Schedules]:
    with schedules_of(database_url) as opened:
        yield opened


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a daemon; whatever happens, none survives the test."""
    daemons: list[DaemonProcess] = []

    def begin(url: str | None = None, **options: object) -> DaemonProcess:
        daemons.append(DaemonProcess(tmp_path / f"scheduler-{len(daemons)}.log", url or database_url, **options))  # type: ignore[arg-type]
        daemons[-1].start()
        return daemons[-1]

    yield begin
    for daemon in daemons:
        daemon.kill()
