"""What the scope ``read`` is shown of tasks, and what nobody is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from actors.mail import send_email
from api.app import create_app
from api.extensions import db
from pipeline.runtime import ask
from pipeline.settings import Settings
from pipeline.store import task_logs
from tests.fixtures.database import query
from tests.fixtures.tokens import authorised, make_token


@pytest.fixture
def task_id(app: Flask, database_url: str, rows: Any) -> str:
    """A task that has succeeded, said something and returned something."""
    message_id = str(send_email.send("a@b.example", "x", "y").message_id)
    rows("DELETE FROM pipeline.ready")
    result = json.dumps({"sent": 1, "token": "geheim"})
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at, result, result_until)"
        " SELECT id, 1, 1, 's', clock_timestamp(), %s::json, 'infinity' FROM pipeline.task",
        result,
    )
    id = query(database_url, "SELECT id FROM pipeline.task")
    ask(task_logs.write, json.dumps([{"t": id, "r": 1, "n": 1, "a": 1, "l": 20, "g": "x", "m": "text"}]))
    return message_id


def seen(client: FlaskClient, task_id: str) -> tuple[Any, Any, Any]:
    """The result of a task, alone and in a list, and what it logged."""
    shown = client.get(f"/api/tasks/{task_id}/status/").json
    (listed,) = client.get("/api/tasks/?state=all").json["tasks"]
    (line,) = client.get(f"/api/tasks/{task_id}/logs/").json["lines"]
    assert (shown["state"], listed["state"], line["level"]) == ("succeeded", "succeeded", "info")
    return shown["result"], listed["result"], line["message"]


def test_an_operator_sees_results_and_lines_but_no_masked_field(client: FlaskClient, task_id: str) -> None:
    result = {"sent": 1, "token": "***"}

    assert seen(client, task_id) == (result, result, "text")


def test_a_reader_sees_that_there_are_some(app: Flask, database_url: str, task_id: str) -> None:
    reader = authorised(app.test_client(), make_token(database_url, "read", name="reader"))

    assert seen(reader, task_id) == (None, None, None)


def test_a_reader_sees_them_where_that_is_wanted(database_url: str, app: Flask, task_id: str) -> None:
    other = create_app(Settings(database_url=database_url, read_shows_payloads=True, masked_fields=" Sent ,"))
    reader = authorised(other.test_client(), make_token(database_url, "read", name="reader"))

    result = {"sent": "***", "token": "geheim"}
    assert seen(reader, task_id) == (result, result, "text")
    with other.app_context():
        db.engine.dispose()
