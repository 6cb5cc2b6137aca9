"""Whether the API can serve requests."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from pipeline import get_broker
from pipeline.settings import Settings
from tests.fixtures.broker import working
from tests.fixtures.process_broker import process_broker
from tests.fixtures.wait import eventually


def test_it_is_ready_without_workers_and_counts_them(client: FlaskClient) -> None:
    assert client.get("/readyz").json == {"status": "ready", "workers": 0}
    with working(get_broker(), threads=1):
        eventually(lambda: client.get("/readyz/").json == {"status": "ready", "workers": 1})


def test_the_printed_address_tells_what_there_is(client: FlaskClient) -> None:
    answer = client.get("/").json

    assert answer is not None
    assert {"GET /api/tasks/", "POST /api/orders/import", "GET /readyz"} <= set(answer["routes"])


@pytest.fixture
def unmigrated(empty_database_url: str) -> Any:
    with process_broker(empty_database_url):
        yield create_app(Settings(database_url=empty_database_url)).test_client()


@pytest.mark.parametrize("path", ["/readyz", "/api/tasks/"])
def test_an_older_schema_is_refused_and_the_command_named(unmigrated: FlaskClient, problem: Any, path: str) -> None:
    answer = unmigrated.get(path)

    assert "Run: pipeline migrate" in problem(answer, 503)["detail"]
    assert answer.headers["Retry-After"] == "5"
    assert unmigrated.get("/healthz").status_code == 200
    problem(unmigrated.get("/nothing"), 404)
