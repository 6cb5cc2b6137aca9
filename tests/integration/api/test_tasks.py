"""Tasks over HTTP."""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from actors.mail import send_email
from pipeline import cancel, get_broker
from tests.fixtures.broker import working
from tests.fixtures.database import query
from tests.fixtures.wait import eventually

Send = Callable[..., str]


@pytest.fixture
def send(app: object) -> Send:
    """Send a mail and return the task's id."""
    return lambda **options: str(send_email.send_with_options(args=("a@b.example", "x", "y"), **options).message_id)


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json["tasks"]]


def test_active_tasks_are_listed_newest_first(client: FlaskClient, send: Send) -> None:
    first, second, cancelled, later = send(), send(), send(), send(delay=60_000)
    cancel(cancelled, who="test")

    assert ids(client.get("/api/tasks/")) == [later, second, first]
    assert ids(client.get("/api/tasks")) == [later, second, first]
    assert ids(client.get("/api/tasks/?state=queued")) == [second, first]
    assert ids(client.get("/api/tasks/?state=cancelled&state=scheduled")) == [later, cancelled]
    assert ids(client.get("/api/tasks/?state=running,failed")) == []
    assert ids(client.get("/api/tasks/?state=all")) == [later, cancelled, second, first]


@pytest.mark.parametrize("state", ["queued", "all"])
def test_a_list_is_read_in_pieces_while_it_grows(client: FlaskClient, send: Send, state: str) -> None:
    sent = [send() for _ in range(5)]
    seen, url = [], f"/api/tasks/?limit=2&state={state}"
    answer = client.get(url)
    while True:
        seen += ids(answer)
        send()
        if answer.json["next_cursor"] is None:
            break
        answer = client.get(f"{url}&cursor={answer.json['next_cursor']}")

    assert seen == sent[::-1]


@pytest.mark.parametrize(
    "arguments", ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=²", "cursor=x", "state=pending"]
)
def test_wrong_arguments_are_explained(client: FlaskClient, problem: Any, arguments: str) -> None:
    name = arguments.partition("=")[0]
    assert problem(client.get(f"/api/tasks/?{arguments}"), 400)["detail"].startswith(name)


def test_one_task_is_shown_in_both_vocabularies(client: FlaskClient, send: Send) -> None:
    task_id = send()

    shown = client.get(f"/api/tasks/{task_id}/status/").json

    assert shown["task_id"] == task_id
    assert (shown["status"], shown["state"]) == ("queued", "queued")
    assert (shown["name"], shown["actor"]) == ("send_email", "send_email")
    assert (shown["progress"], shown["error_message"], shown["result"]) == (0, None, None)
    assert datetime.fromisoformat(shown["created_at"]).tzinfo is not None
    assert client.get(f"/api/tasks/{task_id}/status").json == shown
    assert "args" not in shown


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "abc", "1", "%00", "'; --"])
@pytest.mark.parametrize("what", ["status", "cancel"])
def test_an_unknown_task_is_unknown(client: FlaskClient, problem: Any, task_id: str, what: str) -> None:
    url = f"/api/tasks/{task_id}/{what}/"
    found = problem(client.get(url) if what == "status" else client.post(url), 404)
    assert found["type"] == "urn:pipeline:problem:task-not-found"


def test_a_waiting_task_is_cancelled_once_or_twice(client: FlaskClient, database_url: str, send: Send) -> None:
    for task_id in (send(), send(delay=60_000)):
        for _ in range(2):
            answer = client.post(f"/api/tasks/{task_id}/cancel/", json={"reason": "doppelt bestellt"})
            assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
            assert answer.json["error_message"] == "Cancelled: doppelt bestellt"
    assert (
        query(database_url, "SELECT count(*) FROM pipeline.audit_log WHERE action = 'cancel' AND source = 'api'") == 2
    )


def test_a_running_task_is_asked_to_end(client: FlaskClient, monkeypatch: Any, send: Send) -> None:
    """202: accepted, and done soon. Twice is the same, force may follow."""
    begun = threading.Event()

    def deliver(*_: object) -> None:
        begun.set()
        while True:
            threading.Event().wait(0.01)

    monkeypatch.setattr("actors.mail.deliver", deliver)
    monkeypatch.setattr("actors.mail.configured_server", lambda: None)
    with working(get_broker(), threads=1):
        task_id = send()
        assert begun.wait(10)
        eventually(lambda: client.get(f"/api/tasks/{task_id}/status/").json["status"] == "running", within=5)
        for body in ({"reason": "zu spät"}, {}, {"force": True}):
            answer = client.post(f"/api/tasks/{task_id}/cancel/", json=body)
            assert (answer.status_code, answer.json["status"]) == (202, "running")

        shown = eventually(lambda: _if_ended(client, task_id), within=5)

    assert (shown["status"], shown["error_message"]) == ("cancelled", "Cancelled: zu spät")
    assert client.post(f"/api/tasks/{task_id}/cancel/").status_code == 200


def _if_ended(client: FlaskClient, task_id: str) -> Any:
    shown = client.get(f"/api/tasks/{task_id}/status/").json
    return None if shown["status"] == "running" else shown


@pytest.mark.parametrize("force", [1, "yes", None])
def test_force_is_true_or_false(client: FlaskClient, problem: Any, send: Send, force: object) -> None:
    task_id = send()
    problem(client.post(f"/api/tasks/{task_id}/cancel/", json={"force": force}), 400)
    assert client.get(f"/api/tasks/{task_id}/status/").json["status"] == "queued"


@pytest.mark.parametrize("reason", [7, "x\0y", ["a"]])
def test_a_reason_is_a_text(client: FlaskClient, problem: Any, send: Send, reason: object) -> None:
    task_id = send()
    problem(client.post(f"/api/tasks/{task_id}/cancel/", json={"reason": reason}), 400)
    assert client.get(f"/api/tasks/{task_id}/status/").json["status"] == "queued"


def test_a_task_that_has_ended_is_not_cancelled(client: FlaskClient, problem: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("actors.mail.deliver", lambda *_: None)
    monkeypatch.setattr("actors.mail.configured_server", lambda: None)
    with working(get_broker(), threads=1):
        message = send_email.send("a@b.example", "x", "y")
        message.get_result(block=True, timeout=20_000)

        found = problem(client.post(f"/api/tasks/{message.message_id}/cancel/"), 409)

    assert found["state"] == "succeeded"
    assert "is succeeded" in found["detail"]
    shown = client.get(f"/api/tasks/{message.message_id}/status/").json
    assert (shown["status"], shown["progress"], shown["result"]) == ("succeeded", 100, "sent")


def test_what_nobody_serves_is_a_problem_too(client: FlaskClient, problem: Any) -> None:
    problem(client.get("/api/nothing"), 404)
    assert "GET" in client.put("/api/tasks/").headers["Allow"]
    assert json.loads(client.get("/healthz").text) == {"status": "alive"}


def test_a_list_can_be_narrowed_down(client: FlaskClient, send: Send) -> None:
    task_id = send()

    def listed(query: str) -> list[str]:
        return [task["task_id"] for task in client.get(f"/api/tasks/?{query}").json["tasks"]]

    assert listed(f"actor={send_email.actor_name}") == listed(f"queue={send_email.queue_name}") == [task_id]
    assert listed("actor=nobody") == listed("tag=none") == listed("entity=a:1") == listed(f"parent={task_id}") == []


@pytest.mark.parametrize("query", ["parent=nonsense", "actor=%00", "tag=a%00b"])
def test_a_filter_that_makes_no_sense_is_a_bad_request(client: FlaskClient, problem: Any, query: str) -> None:
    problem(client.get(f"/api/tasks/?{query}"), 400)
