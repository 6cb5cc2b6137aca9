"""``pipeline web``: it becomes gunicorn, so whoever has started it signals that, and sees its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cli.web import STOP_SECONDS, server_command
from pipeline.settings import Settings
from tests.fixtures.program import ROOT, Program, children_of, environment_of, running
from tests.fixtures.tokens import make_token
from tests.fixtures.wait import eventually
from tests.fixtures.web import Stream, begun

pytestmark = pytest.mark.timeout(120)

ANYWHERE = "0.0.0.0"  # noqa: S104 - that is the point
#: The machine may be busy.
PATIENCE = 40


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_served(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE) as answer:
        return bool(answer.status == 200)


def two_of(program: Program) -> set[int]:
    """Wait until two processes serve, and none that is about to end."""
    return eventually(lambda: len(found := set(children_of(program.process.pid))) == 2 and found, within=PATIENCE)


def test_two_processes_serve_are_replaced_at_sighup_and_end_in_order_at_sigterm(
    database_url: str, tmp_path: Path
) -> None:
    """One after the other, since a start is what takes long. Nobody waits for it: requests are kept until it answers."""
    port = free_port()
    options = ["--port", str(port), "--processes", "2"]
    with running(tmp_path, "web", *options, database_url=database_url) as program:
        program.says("web.started")
        assert is_served(port)
        first = two_of(program)
        for held in first:
            os.kill(held, signal.SIGSTOP)
            assert is_served(port), "by the other"
            os.kill(held, signal.SIGCONT)

        program.signal(signal.SIGHUP)
        eventually(lambda: not first & set(children_of(program.process.pid)), within=PATIENCE)
        assert two_of(program)
        assert is_served(port)

        web = SimpleNamespace(address=f"http://127.0.0.1:{port}", token=make_token(database_url))
        stream = Stream(web, "/api/v1/events")  # type: ignore[arg-type]
        begun(stream)
        program.signal(signal.SIGTERM)
        assert program.end(within=STOP_SECONDS / 2) == 0
        eventually(stream.has_ended.is_set)
        stream.close()
    assert "Traceback" not in program.output


def test_a_port_that_is_taken_is_told(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with running(tmp_path, "web", "--port", str(port), database_url=database_url) as program:
            assert program.end() == 1

    assert f"Cannot listen on 127.0.0.1, port {port}: it is taken" in program.output
    assert "Traceback" not in program.output


def test_others_are_not_served_without_a_token(database_url: str, tmp_path: Path) -> None:
    options = ["--host", ANYWHERE, "--port", str(free_port()), "--processes", "2"]
    with running(tmp_path, "web", *options, database_url=database_url) as program:
        assert program.end() == 2

    assert "there is no token. Make one first: pipeline token create" in program.output
    assert "Traceback" not in program.output


def test_processes_that_may_not_serve_are_not_started_again_for_ever(database_url: str) -> None:
    """As when the database was away at the start, so that nobody knew."""
    with socket.create_server((ANYWHERE, 0)) as listener:
        done = subprocess.run(
            server_command(Settings(http_processes=2), listener.fileno()),
            env=environment_of(database_url=database_url),
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode in {1, 3}, "that of gunicorn; 1 if the other one fails while it ends"
    assert "there is no token" in done.stderr
