"""Whoever serves others than this machine has a token."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import bind
from pipeline.errors import ConfigurationError
from pipeline.settings import environment
from tests.fixtures.process_broker import process_broker
from tests.fixtures.tokens import make_token

ROOT = Path(__file__).parents[3]
ANYWHERE = "0.0.0.0"  # noqa: S104 - that is the point
AWAY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A socket of this process, as a web server's; at an address of the test's."""
    with socket.create_server((getattr(request, "param", ANYWHERE), 0)) as made:
        yield made


def test_without_a_token_others_are_not_served(database_url: str, listener: socket.socket) -> None:
    address = "{}:{}".format(*listener.getsockname())
    with process_broker(database_url):
        with pytest.raises(ConfigurationError, match=rf"listen on {address}, .*pipeline token create"):
            bind.check()
        make_token(database_url)
        bind.check()
    assert "{}:{}".format(*listener.getsockname()) == address, "it is as it was"


@pytest.mark.parametrize("listener", ["127.0.0.1"], indirect=True)
def test_on_loopback_nothing_is_asked(listener: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    with process_broker(AWAY), socket.create_connection(listener.getsockname()):
        bind.check()
    assert caplog.text == ""


@pytest.mark.usefixtures("listener")
def test_while_the_database_is_away_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    with process_broker(AWAY):
        bind.check()
    assert "web.unchecked" in caplog.text


PROGRAM = "import socket; listener = socket.create_server(('0.0.0.0', 0)); import api.wsgi"


def test_loading_the_application_checks_it_whatever_server_does(database_url: str, tmp_path: Path) -> None:
    variables = environment(database_url=database_url) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]

    refused = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert refused.returncode == 1
    assert "The HTTP API was to listen on 0.0.0.0:" in refused.stderr.splitlines()[-1]
