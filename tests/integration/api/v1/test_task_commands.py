"""Commands on single tasks over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pipeline import get_broker
from pipeline.states import FINAL_STATES, TaskAction, TaskState, allowed_actions
from tests.fixtures.broker import working
from tests.fixtures.database import query
from tests.fixtures.tokens import bearer
from tests.fixtures.wait import eventually
from tests.integration.api.v1.conftest import Get, Make, Post, Send

Audit = Callable[..., list[Any]]
UNKNOWN = "00000000-0000-4000-8000-000000000000"

#: What is said with each command that makes sense where it is allowed.
BODIES: dict[str, Any] = {
    "cancel": None,
    "retry": {"again": True},
    "snooze": {"seconds": 60},
    "reschedule": {"eta": "2100-01-01T00:00:00Z"},
    "reprioritise": {"priority": 7},
    "move": {"queue": "mail"},
    "clone": None,
}


@pytest.fixture
def running(send: Send, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A task that runs until it is cancelled."""
    has_begun = threading.Event()

    def deliver(*_: object) -> None:
        has_begun.set()
        while True:
            threading.Event().wait(0.01)

    monkeypatch.setattr("actors.mail.deliver", deliver)
    monkeypatch.setattr("actors.mail.configured_server", lambda: None)
    with working(get_broker(), threads=1):
        task_id = send()
        assert has_begun.wait(10)
        yield task_id
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        eventually(lambda: client.get(f"/api/v1/tasks/{task_id}").json["state"] in FINAL_STATES, within=5)  # type: ignore[index]


@pytest.mark.parametrize("state", sorted(set(TaskState) - {TaskState.RUNNING}))
def test_what_a_task_says_to_be_allowed_is_what_can_be_done_to_it(
    client: FlaskClient, make: Make, get: Get, state: TaskState
) -> None:
    for action in TaskAction:
        task_id = make(state)
        shown = get(f"/tasks/{task_id}", fields="state,allowed_actions")
        answer = client.post(f"/api/v1/tasks/{task_id}/{action}", json=BODIES[action] or {})

        assert shown == {"state": state, "allowed_actions": list(allowed_actions(state))}
        if action in allowed_actions(state) or (action, state) == ("cancel", "cancelled"):
            assert answer.status_code == (201 if action == "clone" else 200), (action, answer.text)
        else:
            assert (answer.status_code, answer.mimetype) == (409, "application/problem+json"), action
            found: Any = answer.json
            assert (found["state"], found["allowed_actions"]) == (state, list(allowed_actions(state)))
            assert get(f"/tasks/{task_id}")["state"] == state


def test_a_running_task_can_be_cancelled_and_copied_only(post: Post, running: str, client: FlaskClient) -> None:
    for action in set(TaskAction) - {TaskAction.CANCEL, TaskAction.CLONE}:
        found = post(f"/tasks/{running}/{action}", BODIES[action] or {}, 409)
        assert (found["state"], found["allowed_actions"]) == ("running", ["cancel", "clone"])
    post(f"/tasks/{running}/clone", {"delay_seconds": 600}, 201)

    for body in ({"reason": "too late"}, None, {"force": True, "grace_seconds": 60}):
        assert post(f"/tasks/{running}/cancel", body, 202)["task_id"] == running

    shown = eventually(lambda: _if_ended(client, running), within=5)
    assert (shown["state"], shown["error"]) == ("cancelled", "Cancelled: too late")
    assert post(f"/tasks/{running}/cancel")["state"] == "cancelled"


def _if_ended(client: FlaskClient, task_id: str) -> Any:
    shown: Any = client.get(f"/api/v1/tasks/{task_id}").json
    return shown if shown["state"] in FINAL_STATES else None


def test_a_waiting_task_is_cancelled_once_or_twice(post: Post, make: Make, audit: Audit) -> None:
    for state in ("queued", "scheduled"):
        task_id = make(state)
        for _ in range(2):
            shown = post(f"/tasks/{task_id}/cancel", {"reason": "ordered twice"})
            assert (shown["state"], shown["error"]) == ("cancelled", "Cancelled: ordered twice")
    assert audit("cancel") == [("cancel", "tester", "api", "ordered twice")] * 2


def test_each_command_does_what_it_says_and_is_noted(post: Post, make: Make, audit: Audit) -> None:
    task_id, why = make("queued"), {"reason": "because"}

    assert post(f"/tasks/{task_id}/snooze", {"seconds": 60, **why})["state"] == "scheduled"
    assert post(f"/tasks/{task_id}/reschedule", {"eta": "2100-01-01T00:00:00Z", **why})["eta"].startswith("2100-01-01")
    assert post(f"/tasks/{task_id}/reprioritise", {"priority": 7, **why})["priority"] == 7
    assert post(f"/tasks/{task_id}/retry", why)["state"] == "queued"
    get_broker().sender.ensure_lanes([("slow", 0)])
    assert post(f"/tasks/{task_id}/move", {"queue": "slow", **why})["queue"] == "slow"
    clone = post(f"/tasks/{task_id}/clone", why, 201)
    assert (clone["queue"], clone["priority"], clone["parent_id"]) == ("slow", 7, task_id)
    noted = audit("snooze", "reschedule", "reprioritise", "retry", "move", "clone")
    assert [action for action, *_ in noted] == ["snooze", "reschedule", "reprioritise", "retry", "move", "clone"]
    assert {tuple(rest) for _, *rest in noted} == {("tester", "api", "because")}


def test_a_time_may_have_an_offset_that_postgresql_does_not_know(post: Post, make: Make) -> None:
    task_id, eta = make("queued"), "2100-01-01T00:00:00-19:16"

    for path, body in (
        ("/tasks/reschedule", {"ids": [task_id], "eta": eta}),
        (f"/tasks/{task_id}/reschedule", {"eta": eta}),
    ):
        post(path, body)
    made = post("/tasks", {"actor": "send_email", "args": ["a@b.example", "x", "y"], "eta": eta}, 201)
    assert datetime.fromisoformat(made["eta"]) - datetime.fromisoformat(eta) < timedelta(seconds=1)
    timing = {"every": "1h", "starts_at": eta, "anchor_at": eta, "ends_at": "2101-01-01T00:00:00+23:59"}
    post("/schedules", {"name": "far", "actor": "send_email", "args": ["a@b.example", "x", "y"], **timing}, 201)
    assert post("/schedules/preview", {**timing, "after": eta})["items"]


def test_a_task_that_has_succeeded_is_retried_by_who_means_it(post: Post, make: Make) -> None:
    task_id = make("succeeded")

    assert post(f"/tasks/{task_id}/retry", None, 409)["state"] == "succeeded"
    assert post(f"/tasks/{task_id}/retry", {"again": True})["state"] == "queued"


def test_a_clone_has_what_was_changed_and_the_rest_of_the_task(client: FlaskClient, send: Send, get: Get) -> None:
    task_id = send(priority=4, tags=["one"], entity="invoice:1")
    answer = client.post(
        f"/api/v1/tasks/{task_id}/clone",
        json={"args": ["b@b.example", "x", "y"], "delay_seconds": 60, "tags": ["two"], "options": {"max_retries": 2}},
    )

    assert answer.status_code == 201
    clone: Any = answer.json
    assert answer.headers["Location"] == f"/api/v1/tasks/{clone['task_id']}"
    assert (clone["priority"], clone["tags"], clone["entity"]) == (4, ["mail", "two"], "invoice:1")
    wait = datetime.fromisoformat(clone["eta"]) - datetime.fromisoformat(clone["created_at"])
    assert timedelta(seconds=59) < wait < timedelta(seconds=61)
    assert get(f"/tasks/{clone['task_id']}", fields="args,kwargs") == {"args": ["b@b.example", "x", "y"], "kwargs": {}}


def test_a_clone_of_a_task_whose_key_is_held_is_a_conflict(post: Post, send: Send) -> None:
    task_id = send(unique_key="u")

    assert post(f"/tasks/{task_id}/clone", {}, 409)["task_id"] == task_id
    assert post(f"/tasks/{task_id}/clone", {"options": {"on_conflict": "skip"}}, 200)["task_id"] == task_id


@pytest.mark.parametrize("task_id", [UNKNOWN, "abc", "%00", "'; --"])
def test_an_unknown_task_is_unknown(post: Post, app: Flask, task_id: str) -> None:
    for action in TaskAction:
        found = post(f"/tasks/{task_id}/{action}", BODIES[action] or {}, 404, If_Match="*" if action == "move" else "")
        assert found["type"] == "urn:pipeline:problem:task-not-found", action


def test_each_field_that_is_wrong_is_named(post: Post, make: Make, get: Get) -> None:
    task_id = make("queued")
    for action, pointer, body in (
        ("cancel", "#/force", {"force": 1}),
        ("cancel", "#/force", {"force": "yes"}),
        ("cancel", "#/grace_seconds", {"grace_seconds": -1}),
        ("cancel", "#/whole", {"whole": None}),
        ("cancel", "#/reason", {"reason": "x\0y"}),
        ("cancel", "#/reason", {"reason": 7}),
        ("cancel", "#/nonsense", {"nonsense": 7}),
        ("cancel", "#", []),
        ("retry", "#/again", {"again": "true"}),
        ("snooze", "#/seconds", {}),
        ("snooze", "#/seconds", {"seconds": -1}),
        ("snooze", "#/seconds", {"seconds": 1e300}),
        ("reschedule", "#/eta", {}),
        ("reschedule", "#/eta", {"eta": "2100-01-01T00:00:00"}),
        ("reschedule", "#/eta", {"eta": "soon"}),
        ("reprioritise", "#/priority", {"priority": 40_000}),
        ("reprioritise", "#/priority", {"priority": 1.5}),
        ("move", "#/queue", {"queue": ""}),
        ("move", "#/queue", {"queue": "nowhere"}),
        ("clone", "#/args", {"args": "a"}),
        ("clone", "#/kwargs", {"kwargs": None}),
        ("clone", "#/queue", {"queue": "nowhere"}),
        ("clone", "#/priority", {"priority": -40_000}),
        ("clone", "#/delay_seconds", {"delay_seconds": "1"}),
        ("clone", "#/tags/0", {"tags": [1]}),
        ("clone", "#/options/idempotency_key", {"options": {"idempotency_key": "x"}}),
    ):
        found = post(f"/tasks/{task_id}/{action}", body, 422)
        assert [error["pointer"] for error in found["errors"]] == [pointer], (action, body)
    assert get(f"/tasks/{task_id}", fields="state,queue,priority")["state"] == "queued"


def test_what_the_client_has_not_seen_is_left_alone(client: FlaskClient, post: Post, make: Make) -> None:
    task_id = make("queued")
    seen = client.get(f"/api/v1/tasks/{task_id}").headers["ETag"]
    changed = client.post(f"/api/v1/tasks/{task_id}/reprioritise", json={"priority": 7}, headers={"If-Match": seen})
    assert changed.status_code == 200

    found = post(f"/tasks/{task_id}/cancel", None, 412, If_Match=seen)

    assert found["type"] == "urn:pipeline:problem:precondition-failed"
    assert post(f"/tasks/{task_id}/snooze", {"seconds": 0}, If_Match=changed.headers["ETag"])["state"] == "queued"
    assert post(f"/tasks/{task_id}/cancel", None, If_Match="*")["state"] == "cancelled"


def test_nobody_claims_a_task_between_the_look_and_the_command(
    client: FlaskClient, make: Make, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that comes while a command with If-Match is at work passes the task by."""
    task_id = make("queued")
    seen = client.get(f"/api/v1/tasks/{task_id}").headers["ETag"]
    claimable = "SELECT count(*) FROM (SELECT FROM pipeline.ready FOR UPDATE SKIP LOCKED) r"
    found = []

    def look_then_retry(*_: Any, **__: Any) -> None:
        found.append(query(database_url, claimable))

    monkeypatch.setattr("api.blueprints.v1.task_commands.commands.retry_now", look_then_retry)
    for headers in ({}, {"If-Match": seen}):
        assert client.post(f"/api/v1/tasks/{task_id}/retry", headers=headers).status_code == 200

    assert found == [1, 0]


def test_of_many_who_cancel_at_once_one_is_noted(app: Flask, make: Make, audit: Audit, token: str) -> None:
    task_id, ready = make("queued"), threading.Barrier(6)

    def cancel(_: int) -> Any:
        ready.wait(5)
        return app.test_client().post(f"/api/v1/tasks/{task_id}/cancel", headers=bearer(token))

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(cancel, range(6)))

    assert [(answer.status_code, answer.json["state"]) for answer in answers] == [(200, "cancelled")] * 6
    assert len(audit("cancel")) == 1


def test_an_error_leaves_nothing_behind(
    client: FlaskClient, make: Make, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a view does is one transaction: here the answer cannot be read after the command."""
    task_id = make("queued")

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("api.blueprints.v1.task_commands._read", fail)
    assert client.post(f"/api/v1/tasks/{task_id}/cancel").status_code == 500

    assert get(f"/tasks/{task_id}")["state"] == "queued"
