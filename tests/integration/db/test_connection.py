import socket
import time

import pytest

from pipeline.db.connection import check_reachable, connect
from pipeline.errors import ConfigurationError, DatabaseUnavailable


@pytest.fixture
def silent_server():
    """Accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_server_that_answers_is_reachable(server_url):
    check_reachable(server_url)


def test_a_closed_port_is_reported_at_once_and_without_the_password():
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1") as raised:
        check_reachable("postgresql://u:geheim@127.0.0.1:1/db")

    assert "geheim" not in str(raised.value)
    assert raised.value.endpoint == "127.0.0.1:1"


def test_a_silent_server_costs_no_more_than_was_asked(silent_server):
    begin = time.monotonic()

    with pytest.raises(DatabaseUnavailable, match="no answer within 1 s"):
        check_reachable(f"postgresql://127.0.0.1:{silent_server},127.0.0.1:{silent_server}/db", within=1)

    assert time.monotonic() - begin < 2


def test_a_wrong_password_is_not_repeated(server_url):
    wrong = server_url.replace("//postgres:", "//postgres:geheim-", 1)

    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as raised:
        connect(wrong)

    assert "geheim" not in str(raised.value)


def test_an_unknown_parameter_is_an_error_of_configuration():
    with pytest.raises(ConfigurationError, match="nonsense"):
        check_reachable("postgresql://h/db?nonsense=1")
