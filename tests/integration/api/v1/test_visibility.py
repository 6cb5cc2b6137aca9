"""What the REST API shows of what is in tasks, and to whom."""

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

ALL_OF_IT = {"include": "args,kwargs,result,error"}


@pytest.fixture
def task_id(app: Flask, database_url: str, rows: Any) -> str:
    """A task that has failed, said something, returned something and was told a password."""
    message = send_email.send_with_options(args=("a@b.example", "x"), kwargs={"body": "y", "password": "geheim"})
    rows("DELETE FROM pipeline.ready")
    result = json.dumps({"sent": 1, "token": "geheim"})
    rows(
        "INSERT INTO pipeline.attempt"
        " (task_id, run, attempt, outcome, finished_at, result, result_until, error)"
        " SELECT id, 1, 1, 'f', clock_timestamp(), %s::json, 'infinity', %s::json FROM pipeline.task",
        result,
        json.dumps({"type": "ValueError", "message": "no such address", "traceback": "line 1"}),
    )
    id = query(database_url, "SELECT id FROM pipeline.task")
    ask(task_logs.write, json.dumps([{"t": id, "r": 1, "n": 1, "a": 1, "l": 20, "g": "x", "m": "a line"}]))
    return str(message.message_id)


@pytest.fixture
def reader(app: Flask, database_url: str) -> FlaskClient:
    return authorised(app.test_client(), make_token(database_url, "read", name="reader"))


def of_task(client: FlaskClient, task_id: str) -> Any:
    return client.get(f"/api/v1/tasks/{task_id}", query_string=ALL_OF_IT).json


def test_an_operator_sees_what_is_in_a_task_but_no_masked_field(client: FlaskClient, task_id: str) -> None:
    shown = of_task(client, task_id)
    (listed,) = client.get("/api/v1/tasks", query_string=ALL_OF_IT).json["items"]  # type: ignore[index]

    assert shown["args"] == ["a@b.example", "x"]
    assert shown["kwargs"] == {"body": "y", "password": "***"}
    assert "no such address" in shown["error"]
    assert [listed[name] for name in ("args", "kwargs", "error")] == [
        shown[name] for name in ("args", "kwargs", "error")
    ]


def test_a_reader_sees_how_it_fares_and_nothing_of_what_is_in_it(reader: FlaskClient, task_id: str) -> None:
    shown = of_task(reader, task_id)
    (listed,) = reader.get("/api/v1/tasks", query_string=ALL_OF_IT).json["items"]  # type: ignore[index]
    path = f"/api/v1/tasks/{task_id}"
    (attempt,) = reader.get(f"{path}/attempts?include=traceback").json["items"]  # type: ignore[index]
    (line,) = reader.get(f"{path}/logs").json["items"]  # type: ignore[index]
    events = reader.get(f"{path}/timeline").json["items"]  # type: ignore[index]
    (failure,) = reader.get("/api/v1/stats/failures").json["items"]  # type: ignore[index]

    for task in (shown, listed):
        assert (task["state"], task["actor"]) == ("failed", "send_email")
        assert {task[name] for name in ("args", "kwargs", "result", "error", "note")} == {None}
    assert [attempt[name] for name in ("error_type", "error_message", "traceback")] == ["ValueError", None, None]
    assert (line["level"], line["message"]) == ("info", None)
    assert {event["detail"] for event in events} == {None}
    assert (failure["error_type"], failure["error_message"]) == ("ValueError", None)


def test_a_reader_cannot_find_out_by_searching(reader: FlaskClient, client: FlaskClient, task_id: str) -> None:
    refused = reader.get("/api/v1/tasks?text=address")

    assert (refused.status_code, refused.json["needed_scope"]) == (403, "operate")  # type: ignore[index]
    assert len(client.get("/api/v1/tasks?text=address").json["items"]) == 1  # type: ignore[index]


@pytest.fixture
def strict(database_url: str, app: Flask) -> Any:
    """A client of an application that masks a parameter which is passed by position, too."""
    other = create_app(Settings(database_url=database_url, masked_fields="subject,body"))
    yield authorised(other.test_client(), make_token(database_url, name="strict"))
    with other.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("parameters", [{"include": "args"}, {"fields": "args"}])
def test_arguments_by_position_are_masked_whatever_else_is_shown(
    strict: FlaskClient, task_id: str, parameters: dict[str, str]
) -> None:
    shown = strict.get(f"/api/v1/tasks/{task_id}", query_string=parameters).json

    assert shown["args"] == ["a@b.example", "***"]  # type: ignore[index]


def test_so_are_those_of_schedules_also_in_the_audit_trail(
    strict: FlaskClient, reader: FlaskClient, app: Flask
) -> None:
    mail = {"name": "mail", "actor": "send_email", "every": "1h", "args": ["a@b.example", "x", "y"]}
    made = strict.post("/api/v1/schedules", json=mail)
    assert made.status_code == 201, made.text

    seen = ["a@b.example", "***", "***"]
    assert made.json["args"] == seen  # type: ignore[index]
    (noted,) = strict.get("/api/v1/audit?action=add").json["items"]  # type: ignore[index]
    assert (noted["schedule"], noted["new_value"]["args"]) == ("mail", seen)
    shown = reader.get("/api/v1/schedules/mail").json
    assert [shown[name] for name in ("args", "kwargs", "options")] == [None] * 3  # type: ignore[index]
    (noted,) = reader.get("/api/v1/audit?action=add").json["items"]  # type: ignore[index]
    assert (noted["who"], noted["new_value"]) == ("strict", None)
