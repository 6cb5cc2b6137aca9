"""What tasks logged, over HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from actors.mail import send_email
from pipeline.runtime import ask
from pipeline.store import task_logs
from tests.fixtures.database import query


@pytest.fixture
def task_id(app: object, database_url: str) -> str:
    """A task with three lines of its first run and two of its second."""
    message_id = str(send_email.send("a@b.example", "x", "y").message_id)
    id = query(database_url, "SELECT id FROM pipeline.task")
    lines = [
        {"t": id, "r": run, "n": n, "a": 1, "l": level, "g": "actors.mail", "m": f"{run}.{n}"}
        for run, levels in ((1, (10, 20, 40)), (2, (20, 30)))
        for n, level in enumerate(levels, 1)
    ]
    ask(task_logs.write, json.dumps(lines))
    return message_id


def messages(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [line["message"] for line in answer.json["lines"]]


def test_lines_are_listed_in_the_order_of_logging(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/api/tasks/{task_id}/logs/")

    assert messages(answer) == ["1.1", "1.2", "1.3", "2.1", "2.2"]
    first = answer.json["lines"][0]
    assert datetime.fromisoformat(first.pop("at")).tzinfo is not None
    expected = {"run": 1, "attempt": 1, "line": 1, "level": "debug", "logger": "actors.mail", "message": "1.1"}
    assert first == expected
    assert client.get(f"/api/tasks/{task_id}/logs").json == client.get(f"/api/tasks/{task_id}/logs/").json


def test_one_run_or_a_level_can_be_asked_for(client: FlaskClient, task_id: str) -> None:
    url = f"/api/tasks/{task_id}/logs/"

    assert messages(client.get(f"{url}?run=2")) == ["2.1", "2.2"]
    assert messages(client.get(f"{url}?level=warning")) == ["1.3", "2.2"]
    assert messages(client.get(f"{url}?level=INFO&run=1")) == ["1.2", "1.3"]
    assert messages(client.get(f"{url}?run=3")) == []


def test_a_log_is_read_in_pieces_and_goes_on(client: FlaskClient, task_id: str, database_url: str) -> None:
    seen, after = [], "0.0"
    for _ in range(4):
        answer = client.get(f"/api/tasks/{task_id}/logs/?limit=2&after={after}")
        seen += messages(answer)
        after = answer.json["next_after"]

    assert seen == ["1.1", "1.2", "1.3", "2.1", "2.2"]
    assert after == "2.2"
    id = query(database_url, "SELECT id FROM pipeline.task")
    ask(task_logs.write, json.dumps([{"t": id, "r": 2, "n": 3, "a": 0, "l": 20, "g": "x", "m": "later"}]))
    assert messages(client.get(f"/api/tasks/{task_id}/logs/?after={after}")) == ["later"]


@pytest.mark.parametrize(
    "arguments",
    [
        "run=0", "run=x", "run=-1", "run=²", "run=99999999999", "level=loud", "level=", "after=x", "after=1",
        "after=1.x", "after=99999999999.1", "limit=0", "limit=1001", "limit=x", "limit=",
    ],
)  # fmt: skip
def test_wrong_arguments_are_explained(client: FlaskClient, problem: Any, task_id: str, arguments: str) -> None:
    name = arguments.partition("=")[0]

    assert problem(client.get(f"/api/tasks/{task_id}/logs/?{arguments}"), 400)["detail"].startswith(name)


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "abc"])
def test_an_unknown_task_is_not_found(client: FlaskClient, problem: Any, task_id: str) -> None:
    found = problem(client.get(f"/api/tasks/{task_id}/logs/"), 404)

    assert found["type"] == "urn:pipeline:problem:task-not-found"
