"""Commands on many tasks over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline import get_broker
from pipeline.states import TaskState, allowed_actions
from tests.fixtures.database import query
from tests.integration.api.v1.conftest import Get, Make, Post, Send

Audit = Callable[..., list[Any]]
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def told(answer: Any) -> dict[str, int]:
    return {item["task_id"]: item["status"] for item in answer["items"]}


def test_each_named_task_has_its_own_answer_in_their_order(post: Post, make: Make, get: Get, audit: Audit) -> None:
    ids = [make("queued"), UNKNOWN, make("succeeded"), make("scheduled"), make("cancelled")]

    answer = post("/tasks/cancel", {"ids": [*ids, ids[0]], "reason": "all of it"})

    assert list(told(answer).items()) == list(zip(ids, [200, 404, 409, 200, 200], strict=True))
    assert (answer["action"], answer["dry_run"], answer["sample"]) == ("cancel", False, [])
    assert answer["matched"] == {"value": 5, "is_exact": True}
    assert answer["counts"] == {"200": 3, "404": 1, "409": 1}
    assert [item["state"] for item in answer["items"]] == ["cancelled", None, "succeeded", "cancelled", "cancelled"]
    _, unknown, conflict, *_ = answer["items"]
    assert (unknown["problem"], unknown["allowed_actions"]) == ("urn:pipeline:problem:task-not-found", [])
    assert conflict["problem"] == "urn:pipeline:problem:task-conflict"
    assert conflict["allowed_actions"] == list(allowed_actions(TaskState.SUCCEEDED))
    assert get(f"/tasks/{ids[0]}")["state"] == "cancelled"
    assert audit("cancel") == [("cancel", "tester", "api", "all of it")] * 2


def test_each_command_can_be_done_to_many(post: Post, make: Make, get: Get) -> None:
    get_broker().sender.ensure_lanes([("slow", 0)])
    waiting, failed = [make("queued"), make("scheduled")], make("failed")
    for action, more in (
        ("snooze", {"seconds": 600}),
        ("reschedule", {"eta": "2100-01-01T00:00:00Z"}),
        ("reprioritise", {"priority": 7}),
        ("move", {"queue": "slow"}),
    ):
        assert told(post(f"/tasks/{action}", {"ids": [*waiting, failed], **more})) == {
            waiting[0]: 200,
            waiting[1]: 200,
            failed: 409,
        }
    shown = get("/tasks", state="scheduled")["items"]
    assert [(task["queue"], task["priority"], task["eta"][:4]) for task in shown] == [("slow", 7, "2100")] * 2

    assert told(post("/tasks/retry", {"ids": [*waiting, failed]})) == dict.fromkeys([*waiting, failed], 200)
    assert len(get("/tasks", state="queued")["items"]) == 3


def test_a_key_that_is_held_does_not_undo_the_others(post: Post, send: Send, make: Make, get: Get) -> None:
    keyed = send(unique_key="u")
    post(f"/tasks/{keyed}/cancel")
    send(unique_key="u")
    first, last = make("failed"), make("failed")

    answer = post("/tasks/retry", {"ids": [first, keyed, last]})

    assert told(answer) == {first: 200, keyed: 409, last: 200}
    assert answer["items"][1]["problem"] == "urn:pipeline:problem:duplicate-task"
    assert [get(f"/tasks/{each}")["state"] for each in (first, keyed, last)] == ["queued", "cancelled", "queued"]


def test_a_filter_is_tried_first_and_done_when_that_is_said(post: Post, send: Send, make: Make, get: Get) -> None:
    mine = [send(tags=["mine"]) for _ in range(3)]
    make("queued")
    body = {"filter": {"tag": "mine", "queue": "mail"}}

    tried = post("/tasks/cancel", body)
    assert (tried["dry_run"], tried["matched"], tried["items"]) == (True, {"value": 3, "is_exact": True}, [])
    assert [task["task_id"] for task in tried["sample"]] == mine[::-1]
    assert not {"args", "kwargs", "result", "error"} & tried["sample"][0].keys()
    assert len(get("/tasks", state="queued")["items"]) == 4

    done = post("/tasks/cancel", {**body, "dry_run": False, "limit": 2})
    assert told(done) == {mine[2]: 200, mine[1]: 200}
    assert (done["dry_run"], done["matched"]) == (False, {"value": 2, "is_exact": False})
    assert told(post("/tasks/cancel", {**body, "dry_run": False})) == {mine[0]: 200}
    assert post("/tasks/cancel", {**body, "dry_run": False})["items"] == []


def test_a_filter_without_a_state_means_what_the_command_is_for(post: Post, make: Make) -> None:
    ids = {state: make(state) for state in ("queued", "scheduled", "succeeded", "failed", "cancelled")}

    def meant(action: str, **more: Any) -> set[str]:
        sample = post(f"/tasks/{action}", {"filter": {"queue": "mail"}, **more})["sample"]
        return {state for state, task_id in ids.items() if task_id in {task["task_id"] for task in sample}}

    assert meant("cancel") == meant("snooze", seconds=1) == meant("reprioritise", priority=1) == {"queued", "scheduled"}
    assert meant("retry") == {"failed"}


def test_named_tasks_can_be_tried_too(post: Post, make: Make, get: Get) -> None:
    task_id = make("queued")

    tried = post("/tasks/cancel", {"ids": [task_id, UNKNOWN], "dry_run": True})

    assert ([task["task_id"] for task in tried["sample"]], tried["matched"]["value"]) == ([task_id], 1)
    assert get(f"/tasks/{task_id}")["state"] == "queued"


def test_a_thousand_tasks_are_one_request(post: Post, database_url: str, app: object) -> None:
    """One statement, so that it is done well within the time that a statement may take."""
    query(database_url, "SELECT pipeline.ensure_lane_v1('mail', 0)")
    query(database_url, "SELECT count(pipeline.enqueue('send_email', queue => 'mail')) FROM generate_series(1, 1000)")

    answer = post("/tasks/cancel", {"filter": {"queue": "mail"}, "dry_run": False})

    assert (answer["counts"], answer["matched"]) == ({"200": 1000}, {"value": 1000, "is_exact": True})
    assert query(database_url, "SELECT count(*) FROM pipeline.ready") == 0
    ids = [item["task_id"] for item in answer["items"]]
    assert post("/tasks/retry", {"ids": ids})["counts"] == {"200": 1000}


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_each_field_that_is_wrong_is_named(post: Post, make: Make, get: Get, action: str) -> None:
    task_id = make("queued")
    for pointer, body in (
        ("#", {}),
        ("#", {"ids": [task_id], "filter": {"queue": "mail"}}),
        ("#/ids", {"ids": []}),
        ("#/ids", {"ids": [task_id] * 1001}),
        ("#/ids/1", {"ids": [task_id, "nonsense"]}),
        ("#/filter", {"filter": {}}),
        ("#/filter", {"filter": {"state": []}}),
        ("#/filter/state/0", {"filter": {"state": ["pending"]}}),
        ("#/filter/queue", {"filter": {"queue": ""}}),
        ("#/filter/nonsense", {"filter": {"nonsense": 1}}),
        ("#/filter/created_from", {"filter": {"created_from": "yesterday"}}),
        ("#/filter/worker", {"filter": {"worker": "1"}}),
        ("#/limit", {"filter": {"queue": "mail"}, "limit": 1001}),
        ("#/dry_run", {"filter": {"queue": "mail"}, "dry_run": "no"}),
        ("#/reason", {"ids": [task_id], "reason": "x\0"}),
    ):
        found = post(f"/tasks/{action}", body, 422)
        assert [error["pointer"] for error in found["errors"]] == [pointer], body
    assert post("/tasks/move", {"ids": [task_id], "queue": "nowhere"}, 422)["errors"][0]["pointer"] == "#/queue"
    assert get(f"/tasks/{task_id}")["state"] == "queued"
