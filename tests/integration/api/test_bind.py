"""Whoever serves others than this machine has a token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import environment
from tests.fixtures.tokens import make_token

ROOT = Path(__file__).parents[3]

#: What any server does before it loads an application: it listens.
PROGRAM = """
import socket, sys

listeners = [socket.create_server(("127.0.0.1", 0)), socket.create_server((sys.argv[1], 0))]
connected = socket.create_connection(listeners[0].getsockname())
from api.wsgi import app
assert all(listener.fileno() >= 0 and listener.getsockname() for listener in listeners), "they stay as they are"
print("serves")
"""


def serve(url: str, address: str, directory: Path) -> subprocess.CompletedProcess[str]:
    variables = environment(database_url=url) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, address]
    return subprocess.run(command, env=variables, cwd=directory, capture_output=True, text=True, check=False)


def test_without_a_token_no_web_server_comes_up_where_others_can_reach_it(database_url: str, tmp_path: Path) -> None:
    refused = serve(database_url, "0.0.0.0", tmp_path)  # noqa: S104 - that is the point

    assert refused.returncode != 0
    assert "The HTTP API was to listen on 0.0.0.0:" in refused.stderr.splitlines()[-1]
    assert "pipeline token create" in refused.stderr.splitlines()[-1]

    make_token(database_url)
    assert serve(database_url, "0.0.0.0", tmp_path).stdout == "serves\n"  # noqa: S104


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none"])
def test_on_loopback_nothing_is_asked_and_while_the_database_is_away_nobody_knows(url: str, tmp_path: Path) -> None:
    served = serve(url, "127.0.0.1", tmp_path)
    assert (served.stdout, served.stderr) == ("serves\n", "")

    unchecked = serve(url, "0.0.0.0", tmp_path)  # noqa: S104
    assert (unchecked.stdout, "web.unchecked" in unchecked.stderr) == ("serves\n", True)
