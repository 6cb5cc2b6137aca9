"""Tasks that are made over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import creating
from tests.fixtures.database import query
from tests.fixtures.tokens import bearer, make_token
from tests.fixtures.wait import eventually
from tests.integration.api.v1.conftest import Get, Post

MAIL = {"actor": "send_email", "args": ["a@b.example", "x", "y"]}
Audit = Callable[..., list[Any]]


@pytest.fixture
def announced(app: Flask, database_url: str) -> str:
    """An actor that workers have announced and this process has not."""
    query(database_url, "SELECT pipeline.ensure_lane_v1('far', 3)")
    query(
        database_url, "INSERT INTO pipeline.actor (name, queue, priority) VALUES ('far_away', 'far', 3) RETURNING name"
    )
    return "far_away"


def test_a_task_is_made_and_its_place_is_told(client: FlaskClient, get: Get, audit: Audit) -> None:
    answer = client.post(
        "/api/v1/tasks",
        json={
            **MAIL,
            "priority": -3,
            "delay_seconds": 90,
            "tags": ["by hand"],
            "entity": "invoice:7",
            "tenant": "acme",
            "correlation_id": "c-1",
            "reason": "the first one got lost",
            "options": {"max_retries": 1},
        },
    )

    assert answer.status_code == 201, answer.text
    made = answer.json
    assert made is not None
    assert answer.headers["Location"] == f"/api/v1/tasks/{made['task_id']}"
    assert (made["state"], made["queue"], made["priority"]) == ("scheduled", "mail", -3)
    assert (made["tags"], made["entity"], made["tenant"]) == (["by hand", "mail"], "invoice:7", "acme")
    assert made["correlation_id"] == "c-1"
    wait = datetime.fromisoformat(made["eta"]) - datetime.fromisoformat(made["created_at"])
    assert timedelta(seconds=89) < wait < timedelta(seconds=91)
    assert get(f"/tasks/{made['task_id']}", fields="args,kwargs") == {"args": MAIL["args"], "kwargs": {}}
    assert client.get(f"/api/v1/tasks/{made['task_id']}").headers["ETag"] == answer.headers["ETag"]
    assert audit("enqueue") == [("enqueue", "tester", "api", "the first one got lost")]


def test_an_eta_is_an_instant_and_one_that_is_over_is_now(post: Post) -> None:
    eta = datetime(2100, 1, 1, tzinfo=UTC)
    later = post("/tasks", {**MAIL, "eta": "2100-01-01T01:00:00+01:00"}, 201)
    now = post("/tasks", {**MAIL, "eta": "2020-01-01T00:00:00Z"}, 201)

    assert abs(datetime.fromisoformat(later["eta"]) - eta) < timedelta(seconds=1)
    assert now["state"] == "queued"


def test_an_actor_that_only_workers_have_is_sent_to_by_its_name(post: Post, announced: str) -> None:
    made = post("/tasks", {"actor": announced, "kwargs": {"a": 1}}, 201)
    elsewhere = post("/tasks", {"actor": announced, "queue": "mail", "priority": 1}, 201)

    assert (made["queue"], made["priority"], made["state"]) == ("far", 3, "queued")
    assert (elsewhere["queue"], elsewhere["priority"]) == ("mail", 1)


def test_an_unknown_actor_or_queue_is_named_with_what_is_like_it(post: Post, announced: str) -> None:
    for body, pointer, near in (
        ({"actor": "send_emial"}, "#/actor", "did you mean send_email?"),
        ({"actor": "far_awy"}, "#/actor", "did you mean far_away?"),
        ({"actor": "qqqq"}, "#/actor", "there is no actor of this name"),
        ({**MAIL, "queue": "mial"}, "#/queue", "did you mean mail?"),
    ):
        (error,) = post("/tasks", body, 422)["errors"]
        assert error["pointer"] == pointer
        assert error["detail"].endswith(near)


#: Fields of a body that are wrong, and how the answer names them.
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("#/actor", {"actor": ""}),
    ("#/actor", {"actor": 7}),
    ("#/actor", {"actor": "a\0"}),
    ("#/args", {"args": {}}),
    ("#/args", {"args": ["too few"]}),
    ("#/args", {"kwargs": {"nobody": 1}}),
    ("#/kwargs", {"kwargs": []}),
    ("#/queue", {"queue": ""}),
    ("#/priority", {"priority": 40_000}),
    ("#/priority", {"priority": "1"}),
    ("#/priority", {"priority": True}),
    ("#/delay_seconds", {"delay_seconds": -1}),
    ("#/delay_seconds", {"delay_seconds": 1e300}),
    ("#/eta", {"eta": "2100-01-01T00:00:00"}),
    ("#/eta", {"eta": 5}),
    ("#", {"eta": "2100-01-01T00:00:00Z", "delay_seconds": 1}),
    ("#/tags", {"tags": ["x"] * 21}),
    ("#/tags/0", {"tags": [""]}),
    ("#/entity", {"entity": "nothing"}),
    ("#/tenant", {"tenant": ""}),
    ("#/correlation_id", {"correlation_id": "x" * 201}),
    ("#/reason", {"reason": None}),
    ("#/options/max_retries", {"options": {"max_retries": -1}}),
    ("#/options/time_limit", {"options": {"time_limit": 0}}),
    ("#/options/on_conflict", {"options": {"on_conflict": "perhaps"}}),
    ("#/options/group_completion_uuid", {"options": {"group_completion_uuid": "x"}}),
    ("#/options/idempotency_key", {"options": {"idempotency_key": "x"}}),
    ("#/nonsense", {"nonsense": 1}),
]


def test_each_field_that_is_wrong_is_named(post: Post, database_url: str) -> None:
    for pointer, body in WRONG:
        found = post("/tasks", {**MAIL, **body}, 422)

        assert found["type"] == "urn:pipeline:problem:body-invalid"
        assert [error["pointer"] for error in found["errors"]] == [pointer], body
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 0


def test_what_postgresql_cannot_hold_is_refused(post: Post) -> None:
    found = post("/tasks", {**MAIL, "args": ["a@b.example", "x\0", "y"]}, 422)
    assert found["type"] == "urn:pipeline:problem:message-not-encodable"


def test_a_body_that_is_no_json_is_refused(client: FlaskClient, problem: Any) -> None:
    problem(client.post("/api/v1/tasks", data=b"{", content_type="application/json"), 400)
    problem(client.post("/api/v1/tasks", data=b"actor=x"), 415)
    problem(client.post("/api/v1/tasks"), 415)


def test_a_held_unique_key_stands_or_is_a_conflict(post: Post) -> None:
    keyed = {**MAIL, "options": {"unique_key": "report"}}
    first = post("/tasks", keyed, 201)

    assert post("/tasks", keyed, 200)["task_id"] == first["task_id"]
    keyed["options"]["on_conflict"] = "error"
    found = post("/tasks", keyed, 409)
    assert (found["type"], found["task_id"]) == ("urn:pipeline:problem:duplicate-task", first["task_id"])


def test_the_same_request_again_is_answered_with_the_first_task(post: Post, audit: Audit, database_url: str) -> None:
    first = post("/tasks", MAIL, 201, Idempotency_Key="k-1")
    again = post("/tasks", dict(reversed(MAIL.items())), 200, Idempotency_Key="k-1")
    other = post("/tasks", MAIL, 201, Idempotency_Key="k-2")

    assert again == first
    assert other["task_id"] != first["task_id"]
    assert len(audit("enqueue")) == 2
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 2


def test_the_key_holds_when_the_task_has_ended(post: Post) -> None:
    first = post("/tasks", MAIL, 201, Idempotency_Key="k")
    post(f"/tasks/{first['task_id']}/cancel")

    again = post("/tasks", MAIL, 200, Idempotency_Key="k")

    assert (again["task_id"], again["state"]) == (first["task_id"], "cancelled")


@pytest.mark.parametrize("on_conflict", ["skip", "error"])
def test_a_key_is_not_good_for_something_else(post: Post, on_conflict: str) -> None:
    sent = {**MAIL, "options": {"on_conflict": on_conflict}}
    first = post("/tasks", sent, 201, Idempotency_Key="k")

    assert post("/tasks", sent, 200, Idempotency_Key="k")["task_id"] == first["task_id"]
    found = post("/tasks", {**sent, "priority": 1}, 422, Idempotency_Key="k")
    assert (found["type"], found["task_id"]) == ("urn:pipeline:problem:idempotency-key-reused", first["task_id"])


def test_a_key_belongs_to_who_sent_it(post: Post, database_url: str) -> None:
    first = post("/tasks", MAIL, 201, Idempotency_Key="k")
    other = bearer(make_token(database_url, name="other"))

    assert post("/tasks", MAIL, 201, Idempotency_Key="k", **other)["task_id"] != first["task_id"]


def test_a_key_that_is_none_is_refused(post: Post) -> None:
    for key in ("", "a b", "x" * 256, "é"):
        found = post("/tasks", MAIL, 400, Idempotency_Key=key)
        assert [each["name"] for each in found["invalid_params"]] == ["Idempotency-Key"]
    replacing = {**MAIL, "options": {"on_conflict": "replace", "unique_key": "u"}}
    assert post("/tasks", replacing, 422, Idempotency_Key="k")["errors"][0]["pointer"] == "#/options/on_conflict"


def test_a_clone_is_not_what_was_sent_with_the_key(post: Post) -> None:
    first = post("/tasks", MAIL, 201, Idempotency_Key="k")
    clone = post(f"/tasks/{first['task_id']}/clone", {}, 201)

    assert clone["task_id"] != first["task_id"]
    assert post("/tasks", MAIL, 200, Idempotency_Key="k")["task_id"] == first["task_id"]


def test_of_two_at_once_the_second_waits_and_gets_the_task_of_the_first(
    app: Flask, database_url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stands still before its commit until PostgreSQL says that the second waits for it."""
    has_written, may_commit = threading.Event(), threading.Event()
    note = creating.tasks.note_enqueue

    def stand_still(*arguments: Any) -> None:
        note(*arguments)
        has_written.set()
        assert may_commit.wait(5)

    def send() -> Any:
        return app.test_client().post("/api/v1/tasks", json=MAIL, headers={"Idempotency-Key": "k"} | bearer(token))

    monkeypatch.setattr(creating.tasks, "note_enqueue", stand_still)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(send)
        assert has_written.wait(5)
        second = threads.submit(send)
        eventually(lambda: query(database_url, "SELECT count(*) FROM pg_locks WHERE NOT granted"), within=5)
        may_commit.set()
        answers = [first.result(5), second.result(5)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json == answers[1].json
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 1


def test_of_many_at_once_one_makes_the_task(app: Flask, database_url: str, token: str) -> None:
    ready = threading.Barrier(6)

    def send(n: int) -> Any:
        ready.wait(5)
        headers = {"Idempotency-Key": f"k-{n % 2}"} | bearer(token)
        return app.test_client().post("/api/v1/tasks", json=MAIL, headers=headers)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(send, range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201] * 2
    assert len({answer.json["task_id"] for answer in answers}) == 2
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 2
