"""The application on a test's database, without a server around it."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from actors.models import create_tables
from api.app import create_app
from api.extensions import db
from pipeline.settings import Settings
from tests.fixtures.process_broker import process_broker
from tests.fixtures.tokens import authorised, make_token


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, upload_limit_bytes=100_000)


@pytest.fixture
def app(database_url: str, settings: Settings) -> Iterator[Flask]:
    create_tables(database_url)
    with process_broker(database_url):
        app = create_app(settings, PROPAGATE_EXCEPTIONS=False)
        yield app
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def token(app: Flask, database_url: str) -> str:
    """An operator's, called ``tester``."""
    return make_token(database_url)


@pytest.fixture
def client(app: Flask, token: str) -> FlaskClient:
    """A client with that token."""
    return authorised(app.test_client(), token)


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A client without one."""
    return app.test_client()


@pytest.fixture
def problem() -> Any:
    """Check that an answer is a problem, and return what it says."""

    def check(answer: Any, status: int) -> Any:
        assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text
        assert answer.json["status"] == status
        return answer.json

    return check
