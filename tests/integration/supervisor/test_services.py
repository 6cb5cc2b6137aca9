"""Programs that run together, with real ones."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from pipeline.settings import environment
from pipeline.supervisor.services import Services
from tests.fixtures.wait import eventually

#: Says that it has begun, and what it was told in the end.
OBEDIENT = """
import pathlib, signal, sys
place = pathlib.Path(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
place.with_suffix(".begun").touch()
signal.sigwait({signal.SIGTERM})
with place.with_name("order").open("a") as order: print(place.name, file=order)
"""
DEAF = OBEDIENT.replace("signal.sigwait({signal.SIGTERM})", "signal.pause()")


def start(services: Services, place: Path, name: str, program: str = OBEDIENT) -> None:
    services.start(name, [sys.executable, "-c", program, str(place / name)], environment())


def signal_once_begun(place: Path, count: int, *numbers: signal.Signals) -> threading.Thread:
    def act() -> None:
        eventually(lambda: len(list(place.glob("*.begun"))) == count, within=20)
        for number in numbers:
            os.kill(os.getpid(), number)
            threading.Event().wait(0.3)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_they_stop_in_the_opposite_order(tmp_path: Path) -> None:
    said: list[str] = []
    with Services(said.append, stop_seconds=10) as services:
        for name in ("first", "second", "third"):
            start(services, tmp_path, name)
        helper = signal_once_begun(tmp_path, 3, signal.SIGTERM)
        assert services.run() == 0
        helper.join()

    assert (tmp_path / "order").read_text().split() == ["third", "second", "first"]
    assert said == ["Stopping; once more to stop at once."]


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    with Services(said.append, stop_seconds=0.2) as services:
        start(services, tmp_path, "deaf", DEAF)
        helper = signal_once_begun(tmp_path, 1, signal.SIGINT)
        assert services.run() == 0
        helper.join()

    assert said[1:] == ["The deaf was killed."]


def test_a_second_signal_kills(tmp_path: Path) -> None:
    said: list[str] = []
    with Services(said.append, stop_seconds=60) as services:
        start(services, tmp_path, "deaf", DEAF)
        helper = signal_once_begun(tmp_path, 1, signal.SIGHUP, signal.SIGINT)
        assert services.run() == 0
        helper.join()

    assert said[1:] == ["The deaf was killed."]


def test_one_that_ends_ends_all(tmp_path: Path) -> None:
    said: list[str] = []
    with Services(said.append, stop_seconds=10) as services:
        services.start("short one", [sys.executable, "-c", "raise SystemExit(7)"], environment())
        assert services.run() == 7

    assert said == ["The short one ended by itself (exit status 7), so everything stops."]


def test_none_outlives_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with Services(print, stop_seconds=10) as services:
            start(services, tmp_path, "first")
            eventually((tmp_path / "first.begun").exists, within=20)
            raise RuntimeError("the port is taken")

    with pytest.raises(RuntimeError):
        fail()

    assert (tmp_path / "order").read_text() == "first\n"
