"""A real gunicorn on loopback, with its database coming and going."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import embedded
from pipeline.db.migrate import migrate
from tests.fixtures.program import running
from tests.fixtures.tokens import bearer, make_token
from tests.fixtures.wait import eventually
from tests.fixtures.web import Web, serving


def ask(address: str, token: str = "") -> tuple[int, str, Any]:
    """Return status, content type and the JSON of an answer, good or bad."""
    request = urllib.request.Request(address, headers=bearer(token) if token else {})  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.headers["Content-Type"], json.load(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers["Content-Type"], json.load(answer)


def checked(web: Web, directory: Path) -> tuple[int, str]:
    """Return what ``pipeline web check`` ends with and says."""
    with running(directory, "web", "check", "--port", web.address.rpartition(":")[2]) as program:
        return program.end(), program.output


@pytest.mark.timeout(180)
def test_the_api_outlives_its_database(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    (tmp_path / "check").mkdir()
    database = embedded.start(home)
    with serving(database.url, tmp_path) as web:
        status, kind, problem = ask(f"{web.address}/readyz")
        assert (status, kind) == (503, "application/problem+json")
        assert "Run: pipeline migrate" in problem["detail"]
        assert ask(f"{web.address}/api/tasks/")[0] == 503
        told = checked(web, tmp_path / "check")
        assert told[0] == 1
        assert "is not ready" in told[1]
        assert "Run: pipeline migrate" in told[1]

        migrate(database.url)
        token = make_token(database.url)
        assert ask(f"{web.address}/api/tasks/", token)[::2] == (200, {"tasks": [], "next_cursor": None})
        assert checked(web, tmp_path / "check") == (0, f"The web server at {web.address} is ready.\n")

        database.stop()
        for path in ("/readyz", "/api/tasks/"):
            status, kind, problem = ask(f"{web.address}{path}", token)
            assert (status, kind) == (503, "application/problem+json")
            assert problem["detail"] == "PostgreSQL does not answer; try again in a moment."
        assert ask(f"{web.address}/healthz")[0] == 200

        with embedded.start(home):
            eventually(lambda: ask(f"{web.address}/api/tasks/", token)[0] == 200, within=20)
