"""Commands on queues, gates and workers over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from pipeline import get_broker
from tests.fixtures.broker import working
from tests.fixtures.database import query
from tests.fixtures.wait import eventually
from tests.integration.api.v1.conftest import Get, Make, Post, Send

Audit = Callable[..., list[Any]]


@pytest.fixture
def worker_id(app: object, database_url: str) -> Iterator[int]:
    """A worker of this process, which is told to end when the test is over, if not before."""
    with working(get_broker(), threads=1):
        yield eventually(lambda: query(database_url, "SELECT max(worker_id) FROM pipeline.worker WHERE state = 'a'"))  # type: ignore[misc]


def test_a_queue_is_paused_and_resumed(post: Post, send: Send, get: Get, audit: Audit) -> None:
    send()
    paused = post("/queues/mail/pause", {"reason": "the server is down", "resume_after_seconds": 3600})

    assert (paused["is_paused"], paused["paused_by"], paused["pause_reason"]) == (True, "tester", "the server is down")
    assert datetime.fromisoformat(paused["resume_at"]).tzinfo is not None
    assert post("/queues/mail/pause")["resume_at"] is None
    for _ in range(2):
        assert post("/queues/mail/resume", {"reason": "it is back"})["is_paused"] is False
    assert get("/queues/mail")["is_paused"] is False
    assert [(action, reason) for action, _, _, reason in audit("pause", "resume")] == [
        ("pause", "the server is down"),
        ("pause", ""),
        ("resume", "it is back"),
    ]


def test_what_is_given_of_a_queue_is_changed(post: Post, send: Send, audit: Audit) -> None:
    send()
    changed = post("/queues/mail", {"max_running": 3, "weight": 2}, method="PATCH")
    assert (changed["max_running"], changed["weight"]) == (3, 2)

    changed = post("/queues/mail", {"max_running": None, "reason": "enough"}, method="PATCH")
    assert (changed["max_running"], changed["weight"]) == (None, 2)
    assert [action for action, *_ in audit("limit", "weigh")] == ["limit", "weigh", "limit"]


def test_a_queue_is_flushed(post: Post, make: Make, get: Get, audit: Audit) -> None:
    waiting = [make("queued"), make("scheduled")]

    assert post("/queues/mail/flush", {"reason": "start over"}) == {"queue": "mail", "cancelled": 2}
    assert [get(f"/tasks/{each}")["state"] for each in waiting] == ["cancelled"] * 2
    assert audit("flush") == [("flush", "tester", "api", "start over")]


def test_a_gate_is_paused_limited_and_resumed(post: Post, get: Get, app: object, audit: Audit) -> None:
    for gate in ("tenant:acme", "key:a/b"):
        assert post(f"/gates/{gate}/pause", {"resume_after_seconds": 60})["is_paused"] is True
        assert get(f"/gates/{gate}")["paused_by"] == "tester"
        assert post(f"/gates/{gate}/resume")["is_paused"] is False
    assert post("/gates/key:a/b", {"max_running": 2}, method="PATCH")["max_running"] == 2
    assert post("/gates/key:a/b", {"max_running": None}, method="PATCH")["max_running"] is None
    assert [action for action, *_ in audit("pause", "resume", "limit")] == ["pause", "resume"] * 2 + ["limit"] * 2


def test_what_is_unknown_is_unknown(post: Post, app: object) -> None:
    for path, body, method in (
        ("/queues/nowhere/pause", {}, "POST"),
        ("/queues/nowhere/resume", {}, "POST"),
        ("/queues/nowhere/flush", {}, "POST"),
        ("/queues/nowhere", {"weight": 1}, "PATCH"),
        ("/gates/actor:nobody/pause", {}, "POST"),
        ("/gates/nonsense/resume", {}, "POST"),
        ("/gates/tenant:acme", {"max_running": 1}, "PATCH"),
        ("/workers/1/drain", {}, "POST"),
        ("/workers/x/drain", {}, "POST"),
        ("/workers/drain", {"all": True}, "POST"),
        ("/workers/drain", {"host": "nowhere"}, "POST"),
    ):
        post(path, body, 404, method=method)


def test_each_field_that_is_wrong_is_named(post: Post, send: Send, get: Get) -> None:
    send()
    before = get("/queues/mail")
    for path, pointer, body, method in (
        ("/queues/mail/pause", "#/resume_after_seconds", {"resume_after_seconds": 0}, "POST"),
        ("/queues/mail/pause", "#/resume_after_seconds", {"resume_after_seconds": "60"}, "POST"),
        ("/queues/mail/pause", "#/nonsense", {"nonsense": 1}, "POST"),
        ("/queues/mail/resume", "#/reason", {"reason": 1}, "POST"),
        ("/queues/mail", "#", {"reason": "none"}, "PATCH"),
        ("/queues/mail", "#/max_running", {"max_running": 0}, "PATCH"),
        ("/queues/mail", "#/max_running", {"max_running": 1.5}, "PATCH"),
        ("/queues/mail", "#/weight", {"weight": 0}, "PATCH"),
        ("/queues/mail", "#/weight", {"weight": None}, "PATCH"),
        ("/gates/tenant:a/pause", "#/resume_after_seconds", {"resume_after_seconds": -1}, "POST"),
        ("/gates/key:a", "#/max_running", {}, "PATCH"),
        ("/gates/key:a", "#/max_running", {"max_running": 2**31}, "PATCH"),
        ("/workers/drain", "#", {}, "POST"),
        ("/workers/drain", "#", {"all": True, "host": "h"}, "POST"),
        ("/workers/drain", "#/host", {"host": ""}, "POST"),
    ):
        found = post(path, body, 422, method=method)
        assert [error["pointer"] for error in found["errors"]] == [pointer], (path, body)
    assert get("/queues/mail") == before


def test_what_the_client_has_not_seen_is_left_alone(client: FlaskClient, post: Post, send: Send) -> None:
    send(delay=60_000)
    for path in ("/queues/mail", "/gates/tenant:acme"):
        post(f"{path}/pause")
        seen = client.get(f"/api/v1{path}").headers["ETag"]
        assert post(f"{path}/resume", None, If_Match=seen)["is_paused"] is False
        post(f"{path}/pause", None, 412, If_Match=seen)


def test_what_happens_in_a_queue_does_not_stand_in_the_way_of_what_is_set(
    client: FlaskClient, post: Post, send: Send
) -> None:
    send()
    seen = client.get("/api/v1/queues/mail").headers["ETag"]
    send()
    assert client.get("/api/v1/queues/mail", headers={"If-None-Match": seen}).status_code == 200

    assert post("/queues/mail", {"weight": 2}, If_Match=seen, method="PATCH")["weight"] == 2
    for stale in (seen, '"", "x.y", W/"z", (', '""', "nonsense"):
        post("/queues/mail", {"weight": 3}, 412, If_Match=stale, method="PATCH")


def test_a_worker_is_drained(post: Post, worker_id: int, audit: Audit) -> None:
    drained = post(f"/workers/{worker_id}/drain", {"reason": "a new kernel"}, 202)

    assert (drained["drained_by"], drained["drain_reason"]) == ("tester", "a new kernel")
    assert audit("drain") == [("drain", "tester", "api", "a new kernel")]


@pytest.mark.parametrize("which", ["all", "host"])
def test_all_workers_of_one_or_of_every_machine_are_drained(post: Post, worker_id: int, get: Get, which: str) -> None:
    host = get(f"/workers/{worker_id}")["host"]

    assert post("/workers/drain", {"all": True} if which == "all" else {"host": host}, 202) == {
        "worker_ids": [worker_id]
    }


def test_a_worker_that_has_ended_is_not_drained(post: Post, app: object) -> None:
    with working(get_broker(), threads=1):
        worker_id = eventually(lambda: get_broker().hub.worker_id)

    assert post(f"/workers/{worker_id}/drain", None, 409)["state"] == "stopped"
