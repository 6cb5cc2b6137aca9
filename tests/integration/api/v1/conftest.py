"""What tests of the REST API ask with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from actors.mail import send_email

Send = Callable[..., str]
Get = Callable[..., Any]


@pytest.fixture
def send(app: object) -> Send:
    """Send a mail and return the task's id."""
    return lambda **options: str(send_email.send_with_options(args=("a@b.example", "x", "y"), **options).message_id)


@pytest.fixture
def get(client: FlaskClient) -> Get:
    """Ask, and return the JSON of an answer that is good."""

    def ask(path: str, **parameters: Any) -> Any:
        answer = client.get(f"/api/v1{path}", query_string=parameters)
        assert (answer.status_code, answer.mimetype) == (200, "application/json"), answer.text
        return answer.json

    return ask
