"""A worker or a web server as process 1, as it is in a container: nobody above it, and no default action for any signal."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import environment as environment_of
from tests.fixtures.wait import eventually

ROOT = Path(__file__).parents[3]
#: A namespace in which the next program is process 1, and ends with whoever made it.
ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_be_alone() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_be_alone(), reason="this kernel lets nobody make a PID namespace")


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return environment_of(database_url=database_url, processes=1, beat_seconds=0.2) | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``pipeline worker`` as process 1. What is seen from here is its parent, ``unshare``."""
    module = "tests.integration.deploy.sleepy_actors"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*ALONE, sys.executable, "-m", "pipeline.cli", "worker", module], env=environment, stdout=log, stderr=log
        )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def web_server(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``pipeline web`` as process 1, at the port of the settings."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment["PIPELINE_HTTP_PORT"] = str(listener.getsockname()[1])
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*ALONE, sys.executable, "-m", "pipeline.cli", "web"], env=environment, stdout=log, stderr=log
        )
    yield process
    process.kill()
    process.wait()


def process_one(unshare: subprocess.Popen[bytes]) -> int:
    """The number that our own namespace knows it by."""
    return int(Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()[0])


def test_it_works_and_lets_a_task_finish_before_it_ends(
    worker: subprocess.Popen[bytes], rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    eventually(lambda: rows("SELECT 1 FROM pipeline.actor WHERE name = 'sleep'"), within=20)
    rows("SELECT pipeline.enqueue('sleep', '[2.0]')")
    eventually(lambda: rows("SELECT 1 FROM pipeline.worker WHERE cardinality(running) = 1"), within=10)

    os.kill(process_one(worker), signal.SIGTERM)

    assert worker.wait(20) == 0
    assert rows("SELECT state FROM pipeline.task_status") == [("succeeded",)]
    assert rows("SELECT state FROM pipeline.worker_status") == [("stopped",)]


def test_it_reaps_what_tasks_leave_behind(
    worker: subprocess.Popen[bytes], rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """And keeps its own: a worker process that was killed is still noticed and replaced."""
    eventually(lambda: rows("SELECT 1 FROM pipeline.actor WHERE name = 'abandon'"), within=20)
    one = process_one(worker)
    (own,) = eventually(lambda: children(one), within=10)
    rows("SELECT pipeline.enqueue('abandon', '[1.5]')")

    eventually(lambda: "sleep" in children(one).values(), within=10)

    eventually(lambda: "sleep" not in children(one).values(), within=10)
    assert set(children(one)) == {own}
    os.kill(own, signal.SIGKILL)
    eventually(lambda: len(children(one)) == 1 and own not in children(one), within=20)
    eventually(lambda: rows("SELECT 1 FROM pipeline.worker WHERE state = 'd'"), within=10)
    os.kill(one, signal.SIGTERM)
    assert worker.wait(20) == 0


def children(pid: int) -> dict[int, str]:
    """The children of a process, those that nobody has reaped among them, and what they are called."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
    return found


def test_its_health_check_knows_whether_it_lives(
    worker: subprocess.Popen[bytes], environment: dict[str, str], rows: Callable[..., list[tuple[Any, ...]]]
) -> None:
    def health() -> int:
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "worker", "check"], env=environment, check=False
        ).returncode

    assert health() == 1
    eventually(lambda: rows("SELECT 1 FROM pipeline.worker_status WHERE state = 'alive'"), within=20)
    assert health() == 0

    os.kill(process_one(worker), signal.SIGTERM)
    worker.wait(20)
    assert health() == 1


def test_a_web_server_knows_whether_it_is_ready_and_ends_with_status_0(
    web_server: subprocess.Popen[bytes], environment: dict[str, str]
) -> None:
    def health() -> int:
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "web", "check"], env=environment, check=False
        ).returncode

    eventually(lambda: health() == 0, within=30)

    os.kill(process_one(web_server), signal.SIGTERM)

    assert web_server.wait(20) == 0
    assert health() == 1
