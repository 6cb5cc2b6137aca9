"""What tests of the REST API ask with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from actors.mail import send_email
from tests.fixtures.database import query
from tests.fixtures.tokens import make_token

Send = Callable[..., str]
Get = Callable[..., Any]
Post = Callable[..., Any]
Make = Callable[[str], str]

#: How runs end by which a task comes to a state.
_OUTCOMES = {"succeeded": "s", "failed": "f", "cancelled": "c", "skipped": "k"}


@pytest.fixture
def token(app: object, database_url: str) -> str:
    """One of ``tester`` with which all can be asked; who may what is a test of its own."""
    return make_token(database_url, "admin")


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


@pytest.fixture
def post(client: FlaskClient) -> Post:
    """Command something, check the status of the answer, and return its JSON."""

    def command(path: str, body: Any = None, status: int = 200, method: str = "POST", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {} if body is None else {"json": body}
        answer = client.open(f"/api/v1{path}", method=method, headers=named, **sent)
        assert answer.status_code == status, answer.text
        assert answer.mimetype == ("application/json" if status < 400 else "application/problem+json")
        return answer.json

    return command


@pytest.fixture
def make(send: Send, database_url: str) -> Make:
    """Make a task that is in a state, without a worker."""

    def task(state: str) -> str:
        task_id = send(**({"delay": 60_000} if state == "scheduled" else {}))
        if state in _OUTCOMES:
            query(
                database_url,
                "WITH gone AS (DELETE FROM pipeline.ready WHERE id = pipeline.find_task_v1(%s) RETURNING id)"
                " INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, started_at, finished_at)"
                " SELECT id, 1, 1, %s, clock_timestamp(), clock_timestamp() FROM gone RETURNING task_id",
                (task_id, _OUTCOMES[state]),
            )
        return task_id

    return task


@pytest.fixture
def audit(database_url: str) -> Callable[..., list[Any]]:
    """List what the audit trail holds of some actions: action, who, source, reason."""

    def noted(*actions: str) -> list[Any]:
        rows = query(
            database_url,
            "SELECT coalesce(json_agg(json_build_array(action, who, source, reason) ORDER BY audit_id), '[]')"
            " FROM pipeline.audit_log WHERE action = ANY (%s)",
            (list(actions),),
        )
        return [tuple(row) for row in rows]  # type: ignore[attr-defined]

    return noted
