"""The master inside the test's process, which shows each decision; its worker processes are real."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.settings import Settings
from pipeline.supervisor.master import Master
from pipeline.supervisor.plan import Plan
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.process_broker import process_broker
from tests.fixtures.wait import eventually

PLAN = Plan(("tests.fixtures.program_actors",), (), 1)


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[None]:
    """Do something in another thread while the block, which holds the main thread, runs."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            act()
        except (AssertionError, OSError) as error:
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def master(database_url: str) -> Callable[..., Master]:
    def make(plan: Plan = PLAN, processes: int = 1, **settings: Any) -> Master:
        return Master(plan, processes, database_url, Settings(database_url=database_url, **settings))

    return make


def workers(url: str, state: str = "alive") -> int:
    return int(str(query(url, "SELECT count(*) FROM pipeline.worker_status WHERE state = %s", (state,))))


def pid_of_a_worker(url: str) -> int:
    return int(str(query(url, "SELECT max(pid) FROM pipeline.worker_status WHERE state = 'alive'")))


def test_it_starts_all_and_stops_all(master: Callable[..., Master], database_url: str) -> None:
    def wait_and_stop() -> None:
        eventually(lambda: workers(database_url) == 2, within=40)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(wait_and_stop):
        assert master(processes=2).run() == 0

    assert workers(database_url, "stopped") == 2


def test_it_rescues_and_replaces_what_dies(master: Callable[..., Master], database_url: str, tmp_path: Any) -> None:
    def kill_and_stop() -> None:
        eventually(lambda: workers(database_url) == 1, within=40)
        with process_broker(database_url):
            program_actors.hold.send(str(tmp_path), "a")
        eventually(lambda: list(tmp_path.glob("a.*")), within=20)
        os.kill(pid_of_a_worker(database_url), signal.SIGKILL)
        eventually(lambda: workers(database_url, "dead") == workers(database_url) == 1, within=40)
        (tmp_path / "go").touch()
        eventually(lambda: query(database_url, "SELECT state FROM pipeline.task_status") == "succeeded", within=20)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(kill_and_stop):
        assert master(lease_seconds=60).run() == 0

    question = "SELECT string_agg(outcome, ',' ORDER BY run) FROM pipeline.attempt_history"
    assert query(database_url, question) == "lost,succeeded"


def test_it_kills_when_asked_twice(master: Callable[..., Master], database_url: str, tmp_path: Any) -> None:
    def insist() -> None:
        eventually(lambda: workers(database_url) == 1, within=40)
        with process_broker(database_url):
            program_actors.hold.send(str(tmp_path), "a")
        eventually(lambda: list(tmp_path.glob("a.*")), within=20)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(insist):
        assert master().run() == 1

    assert query(database_url, "SELECT state FROM pipeline.task_status") == "queued"


def test_it_gives_up_what_can_never_work(master: Callable[..., Master]) -> None:
    assert master(Plan(("no_such_module",), (), 1), processes=3).run() == 78
