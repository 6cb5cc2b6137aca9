"""What the REST API tells beside the list of tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

import pipeline
from actors.mail import send_email
from pipeline import get_broker
from pipeline.store import gates
from pipeline.store.audit import acting_from
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.api.v1.conftest import Get, Send


@pytest.fixture
def worked(app: object, send: Send, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three tasks that a worker has run: one that succeeded, and two that failed."""

    def deliver(mail: Any, *_: Any) -> None:
        if "wrong" in mail.recipient:
            raise ValueError("nobody lives here")

    monkeypatch.setattr("actors.mail.deliver", deliver)
    monkeypatch.setattr("actors.mail.configured_server", lambda: None)
    with working(get_broker(), threads=1):
        good = send_email.send_with_options(args=("a@b.example", "x", "y"), max_retries=0)
        bad = [
            send_email.send_with_options(args=("wrong@b.example", "x", "y"), max_retries=0, entity="mail:1")
            for _ in range(2)
        ]
        good.get_result(block=True, timeout=20_000)
        eventually(lambda: all(_has_ended(each.message_id) for each in bad), within=20)
    return [good.message_id, *(each.message_id for each in bad)]


def _has_ended(task_id: str) -> bool:
    from pipeline.task_queue import get_task_status

    found = get_task_status(task_id)
    return found is not None and found["state"] == "failed"


def test_tasks_are_found_by_what_became_of_them(get: Get, worked: list[str]) -> None:
    good, *bad = worked

    def ids(**query: Any) -> list[str]:
        return [task["task_id"] for task in get("/tasks", **query)["items"]]

    assert (
        ids(state="failed")
        == ids(error_type="ValueError")
        == ids(text="NOBODY lives")
        == ids(entity="mail:1")
        == bad[::-1]
    )
    assert ids(state="succeeded") == [good]
    assert ids(state="failed,succeeded", actor="send_email") == worked[::-1]
    assert ids(error_type="KeyError") == ids(worker=2**62) == []
    soon, now = datetime.now(tz=UTC) + timedelta(minutes=1), datetime.now(tz=UTC) - timedelta(minutes=5)
    assert len(ids(created_from=now.isoformat(), created_to=soon.isoformat())) == 3
    assert len(ids(finished_from=now.isoformat(), finished_to=soon.isoformat())) == 3
    assert ids(created_from=soon.isoformat()) == ids(finished_to=now.isoformat()) == []


def test_tasks_are_counted_if_that_is_asked_for(get: Get, worked: list[str]) -> None:
    assert "count" not in get("/tasks")
    for how in ("capped", "exact"):
        assert get("/tasks", count=how, state="failed", limit=1)["count"] == {"value": 2, "is_exact": True}


def test_the_attempts_of_a_task_are_told(get: Get, worked: list[str]) -> None:
    (attempt,) = get(f"/tasks/{worked[1]}/attempts")["items"]

    assert (attempt["run"], attempt["outcome"], attempt["error_type"]) == (1, "failed", "ValueError")
    assert "traceback" not in attempt
    assert "nobody lives" in get(f"/tasks/{worked[1]}/attempts", include="traceback")["items"][0]["traceback"]


def test_what_happened_to_a_task_is_told_in_pieces(get: Get, worked: list[str]) -> None:
    whole = get(f"/tasks/{worked[0]}/timeline")["items"]
    first = get(f"/tasks/{worked[0]}/timeline", limit=1)
    rest = get(f"/tasks/{worked[0]}/timeline", cursor=first["next_cursor"])

    assert [event["event"] for event in whole][::2] == ["enqueued", "succeeded"]
    assert first["items"] + rest["items"] == whole


@pytest.mark.parametrize("what", ["", "/attempts", "/logs", "/timeline"])
def test_nothing_is_told_of_an_unknown_task(client: FlaskClient, problem: Any, what: str) -> None:
    for task_id in ("00000000-0000-4000-8000-000000000000", "x"):
        problem(client.get(f"/api/v1/tasks/{task_id}{what}"), 404)


def test_queues_are_told_with_what_waits_in_them(client: FlaskClient, get: Get, problem: Any, send: Send) -> None:
    for delay in (None, None, 60_000):
        send(delay=delay)
    pipeline.pause_queue("mail", who="ada", reason="the server moves")

    (queue,) = get("/queues")["items"]
    assert (queue["queue"], queue["queued"], queue["scheduled"], queue["running"]) == ("mail", 2, 1, 0)
    assert (queue["is_paused"], queue["paused_by"], queue["is_exact"]) == (True, "ada", True)
    shown = client.get("/api/v1/queues/mail?count=exact")
    assert shown.json == queue
    assert (
        client.get("/api/v1/queues/mail?count=exact", headers={"If-None-Match": shown.headers["ETag"]}).status_code
        == 304
    )
    for unknown in ("nowhere", "%00", "a/b"):
        problem(client.get(f"/api/v1/queues/{unknown}"), 404)


def test_workers_are_told_with_what_they_are(client: FlaskClient, get: Get, problem: Any) -> None:
    with working(get_broker(), threads=3):
        alive = eventually(lambda: get("/workers", state="alive")["items"])
    ((ended,), (worker,)) = get("/workers", state="stopped,dead")["items"], alive

    assert (worker["threads"], worker["tasks"]) == (3, [])
    assert (ended["worker_id"], ended["state"]) == (worker["worker_id"], "stopped")
    assert get(f"/workers/{worker['worker_id']}") == ended
    for unknown in ("0", "99999", "x", "9" * 30):
        problem(client.get(f"/api/v1/workers/{unknown}"), 404)


def test_actors_are_told_with_their_parameters_and_figures(
    client: FlaskClient, get: Get, problem: Any, worked: list[str]
) -> None:
    found = get("/actors", include="statistics", limit=200)["items"]
    (actor,) = (each for each in found if each["actor"] == "send_email")

    assert [(each["name"], each["is_required"]) for each in actor["parameters"]][:3] == [
        ("recipient", True),
        ("subject", True),
        ("body", True),
    ]
    assert (actor["queue"], actor["description"].partition(" ")[0]) == ("mail", "Send")
    assert [(each["succeeded"], each["failed"]) for each in actor["statistics"]] == [(1, 2)]
    assert get("/actors/send_email") == actor
    assert get("/stats/actors", actor="send_email")["items"] == actor["statistics"]
    assert "statistics" not in get("/actors")["items"][0]
    problem(client.get("/api/v1/actors/nobody"), 404)


def test_figures_are_told(get: Get, worked: list[str]) -> None:
    summary = get("/stats")

    assert (summary["last_hour"]["succeeded"], summary["last_hour"]["failed"]) == (1, 2)
    assert summary["workers"]["alive"] == 0
    spans = get("/stats/throughput", span="day", by="actor,queue", since="2026-01-01T00:00:00Z")["items"]
    assert [(each["actor"], each["queue"], each["started"]) for each in spans] == [("send_email", "mail", 3)]
    (failure,) = get("/stats/failures")["items"]
    assert (failure["error_type"], failure["failures"], failure["error_message"]) == (
        "ValueError",
        2,
        "nobody lives here",
    )


def test_gates_are_told(client: FlaskClient, get: Get, problem: Any, send: Send) -> None:
    with working(get_broker(), threads=1):
        pass  # announces the actors
    pipeline.pause_actor("send_email", who="ada", reason="too many")

    (gate,) = get("/gates")["items"]
    assert (gate["gate"], gate["is_paused"], gate["pause_reason"]) == ("actor:send_email", True, "too many")
    assert get("/gates/actor:send_email") == gate
    problem(client.get("/api/v1/gates/key:a/b"), 404)


def test_gates_are_told_in_pieces_and_counted_up_to_a_bound(get: Get, rows: Any, connect: Any) -> None:
    rows("INSERT INTO pipeline.gate (gate, max_running) VALUES ('key:ruled', 3), ('rate:unruled', NULL)")
    rows("INSERT INTO pipeline.slot (gate, task_id, run) SELECT 'actor:a', n, 1 FROM generate_series(1, 3) n")
    rows(
        "INSERT INTO pipeline.parked (gate, id, eta, lane_id, run, priority)"
        " SELECT g, row_number() OVER (), now(), 1, 1, 0 FROM unnest(ARRAY['actor:a', 'fair:1:x', 'fair:1:y', 'tenant:t']) g,"
        " generate_series(1, 2)"
    )
    expected = rows("SELECT gate, running, waiting FROM pipeline.gate_status ORDER BY gate")
    assert [gate for gate, *_ in expected] == ["actor:a", "key:ruled", "tenant:t"]

    first = get("/gates", limit=2)
    second = get("/gates", limit=2, cursor=first["next_cursor"])
    told = [(each["gate"], each["running"], each["waiting"]) for each in first["items"] + second["items"]]
    assert (told, second["next_cursor"]) == (expected, None)

    capped = gates.gates(get_broker().sql, connect(autocommit=True).cursor(), most=2)
    assert [(row.running, row.waiting, row.is_exact) for row in capped] == [(2, 2, False), (0, 0, True), (0, 2, False)]
    assert get("/gates/actor:a", count="exact")["is_exact"] is True


def test_the_audit_trail_is_told_in_pieces(get: Get, send: Send) -> None:
    tasks = [send(), send(), send()]
    with acting_from("cli"):
        for task_id in tasks:
            pipeline.cancel(task_id, who="eve", reason="no more")

    first = get("/audit", limit=2, who="eve")
    second = get("/audit", limit=2, who="eve", cursor=first["next_cursor"])
    assert [each["task_id"] for each in first["items"] + second["items"]] == tasks[::-1]
    assert [each["action"] for each in get("/audit", task=tasks[0])["items"]] == ["cancel"]
    assert get("/audit", schedule="nightly")["items"] == []
    assert get("/audit", source="api")["items"] == get("/audit", until="2020-01-01T00:00:00Z")["items"] == []
