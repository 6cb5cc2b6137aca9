"""A real gunicorn on loopback, with its database coming and going."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pipeline.db import embedded
from pipeline.db.migrate import migrate
from tests.fixtures.wait import eventually
from tests.fixtures.web import serving


def ask(address: str) -> tuple[int, str, Any]:
    """Return status, content type and the JSON of an answer, good or bad."""
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own address
            return answer.status, answer.headers["Content-Type"], json.load(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers["Content-Type"], json.load(answer)


@pytest.mark.timeout(180)
def test_the_api_outlives_its_database(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    database = embedded.start(home)
    with serving(database.url) as web:
        status, kind, problem = ask(f"{web}/readyz")
        assert (status, kind) == (503, "application/problem+json")
        assert "Run: pipeline migrate" in problem["detail"]
        assert ask(f"{web}/api/tasks/")[0] == 503

        migrate(database.url)
        assert ask(f"{web}/api/tasks/")[::2] == (200, {"tasks": [], "next_cursor": None})

        database.stop()
        for path in ("/readyz", "/api/tasks/"):
            status, kind, problem = ask(f"{web}{path}")
            assert (status, kind) == (503, "application/problem+json")
            assert problem["detail"] == "PostgreSQL does not answer; try again in a moment."
        assert ask(f"{web}/healthz")[0] == 200

        with embedded.start(home):
            eventually(lambda: ask(f"{web}/api/tasks/")[0] == 200, within=20)
