"""Schedules over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fixtures.database import query
from tests.integration.api.v1.conftest import Get, Post

Audit = Callable[..., list[Any]]
NIGHTLY = {
    "name": "nightly",
    "actor": "send_email",
    "cron": "0 2 * * *",
    "timezone": "Europe/Berlin",
    "args": ["a@b.example", "x", "y"],
}


@pytest.fixture
def nightly(post: Post) -> Any:
    """A schedule that was made over HTTP."""
    return post("/schedules", NIGHTLY, 201)


def test_a_schedule_is_made_and_shown(client: FlaskClient, get: Get, audit: Audit) -> None:
    answer = client.post(
        "/api/v1/schedules", json={**NIGHTLY, "reason": "the mails", "max_age_seconds": 60, "missed": "all"}
    )

    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == "/api/v1/schedules/nightly"
    made: Any = answer.json
    assert (made["kind"], made["expression"], made["timezone"]) == ("cron", "0 2 * * *", "Europe/Berlin")
    assert (made["state"], made["version"], made["max_age_seconds"]) == ("active", 1, 60)
    assert made["next_due_at"].endswith(("00:00+00:00", "01:00:00+00:00", "02:00:00+00:00"))
    assert get("/schedules/nightly") == made
    assert get("/schedules")["items"] == [made]
    assert answer.headers["ETag"] == client.get("/api/v1/schedules/nightly").headers["ETag"]
    assert audit("add") == [("add", "tester", "api", "the mails")]
    assert [each["action"] for each in get("/audit", schedule="nightly")["items"]] == ["add"]


def test_schedules_are_listed_in_pieces(post: Post, get: Get, app: object) -> None:
    for name in ("c", "a", "b"):
        post("/schedules", {**NIGHTLY, "name": name}, 201)

    first = get("/schedules", limit=2)
    rest = get("/schedules", limit=2, cursor=first["next_cursor"])

    assert [each["name"] for each in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None


def test_what_is_given_is_changed_and_null_takes_away(post: Post, nightly: Any) -> None:
    changed = post(
        "/schedules/nightly", {"every": "15m", "priority": 3, "ends_at": "2100-01-01T00:00:00Z"}, method="PATCH"
    )
    assert (changed["kind"], changed["expression"], changed["priority"], changed["version"]) == (
        "interval",
        "15m",
        3,
        2,
    )

    changed = post("/schedules/nightly", {"priority": None, "ends_at": None}, method="PATCH")
    assert (changed["priority"], changed["ends_at"], changed["args"]) == (None, None, NIGHTLY["args"])


def test_what_the_client_has_not_seen_is_left_alone(client: FlaskClient, post: Post, nightly: Any, get: Get) -> None:
    seen = client.get("/api/v1/schedules/nightly").headers["ETag"]
    assert seen.startswith('"v1.')
    post("/schedules/nightly/run", None, 201)  # which changes what is shown, and not the schedule
    post("/schedules/nightly", {"description": "one"}, 200, "PATCH", If_Match=seen)

    for path, body, method in (
        ("", {"description": "two"}, "PATCH"),
        ("", None, "DELETE"),
        ("/pause", None, "POST"),
        ("/resume", None, "POST"),
        ("/run", None, "POST"),
    ):
        found = post(f"/schedules/nightly{path}", body, 412, method, If_Match=seen)
        assert found["type"] == "urn:pipeline:problem:precondition-failed"
    assert get("/schedules/nightly")["description"] == "one"
    post("/schedules/nightly/pause", None, 200, If_Match='"v2"')


def test_a_schedule_is_paused_and_resumed(post: Post, nightly: Any) -> None:
    paused = post("/schedules/nightly/pause", {"reason": "holidays"})
    assert (paused["state"], paused["paused_by"], paused["pause_reason"]) == ("paused", "tester", "holidays")
    assert paused["next_due_at"] is None

    resumed = post("/schedules/nightly/resume")
    assert (resumed["state"], resumed["next_due_at"]) == ("active", nightly["next_due_at"])


def test_a_run_by_hand_is_a_task_and_a_firing(client: FlaskClient, post: Post, nightly: Any, get: Get) -> None:
    answers = [client.post("/api/v1/schedules/nightly/run") for _ in range(3)]

    ids = [answer.json["task_id"] for answer in answers if answer.json]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[0].headers["Location"] == f"/api/v1/tasks/{ids[0]}"
    assert get(f"/tasks/{ids[0]}")["state"] == "queued"
    first = get("/schedules/nightly/firings", limit=2)
    rest = get("/schedules/nightly/firings", limit=2, cursor=first["next_cursor"])
    fired = first["items"] + rest["items"]
    assert [each["task_id"] for each in fired] == ids[::-1]
    assert {(each["outcome"], each["is_manual"]) for each in fired} == {("fired", True)}


def test_a_task_that_has_not_ended_is_told_where_schedules_do_not_overlap(post: Post, nightly: Any) -> None:
    post("/schedules/nightly", {"overlap": "skip"}, method="PATCH")
    task_id = post("/schedules/nightly/run", None, 201)["task_id"]

    found = post("/schedules/nightly/run", None, 409)
    assert (found["type"], found["task_id"]) == ("urn:pipeline:problem:schedule-overlaps", task_id)


def test_a_removed_schedule_is_unknown_and_its_history_stays(
    client: FlaskClient, post: Post, nightly: Any, get: Get
) -> None:
    post("/schedules/nightly/run", None, 201)

    removed = client.delete("/api/v1/schedules/nightly?reason=over")

    assert (removed.status_code, removed.data) == (204, b"")
    post("/schedules/nightly", None, 404, "GET")
    assert len(get("/schedules/nightly/firings")["items"]) == 1


def test_what_is_declared_in_code_is_changed_there(
    client: FlaskClient, post: Post, nightly: Any, database_url: str
) -> None:
    query(database_url, "UPDATE pipeline.schedule SET declared_by = 'erp.nights' RETURNING name")

    for method, body in (("PATCH", {"description": "x"}), ("DELETE", None)):
        assert post("/schedules/nightly", body, 409, method)["type"] == "urn:pipeline:problem:schedule-declared"
    assert post("/schedules/nightly/pause")["declared_by"] == "erp.nights"
    assert client.delete("/api/v1/schedules/nightly?force=true").status_code == 204


def test_the_next_instants_are_told_and_where_the_clock_jumps(post: Post, nightly: Any, get: Get) -> None:
    assert len(get("/schedules/nightly/next", n=3)["items"]) == 3
    berlin = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "after": "2027-03-27T12:00:00Z", "n": 2}

    told = post("/schedules/preview", berlin)["items"]

    assert [each["due_at"] for each in told] == ["2027-03-28T01:00:00+00:00", "2027-03-29T00:30:00+00:00"]
    assert [each["mark"] for each in told] == ["gap", None]


def test_a_second_one_of_the_name_is_a_conflict(post: Post, nightly: Any) -> None:
    assert post("/schedules", NIGHTLY, 409)["type"] == "urn:pipeline:problem:schedule-conflict"


def test_what_is_unknown_is_unknown(post: Post, app: object) -> None:
    for path, method, body in (
        ("", "GET", None),
        ("", "PATCH", {}),
        ("", "DELETE", None),
        ("/pause", "POST", None),
        ("/resume", "POST", None),
        ("/run", "POST", None),
        ("/next", "GET", None),
        ("/firings", "GET", None),
    ):
        assert post(f"/schedules/nobody{path}", body, 404, method)["type"] == "urn:pipeline:problem:schedule-unknown"


def test_each_field_that_is_wrong_is_named(post: Post, get: Get, app: object) -> None:
    for pointer, change in (
        ("#/name", {"name": "a b"}),
        ("#/actor", {"actor": "send_emial"}),
        ("#/cron", {"cron": "0 25 * * *"}),
        ("#/cron", {"cron": None}),
        ("#/every", {"cron": None, "every": "soon"}),
        ("#/calendar", {"cron": None, "calendar": "1 lightyear"}),
        ("#/at", {"cron": None, "at": "yesterday"}),
        ("#/at", {"cron": None, "at": "2020-01-01T00:00:00"}),
        ("#/every", {"every": "15m"}),
        ("#/timezone", {"timezone": "Mars/Olympus"}),
        ("#/gap", {"gap": "jump"}),
        ("#/fold", {"fold": "third"}),
        ("#/anchor_at", {"anchor_at": "2020-01-01T00:00:00"}),
        ("#/ends_at", {"starts_at": "2100-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z"}),
        ("#/queue", {"queue": "no queue"}),
        ("#/priority", {"priority": 40_000}),
        ("#/args", {"args": ["too few"]}),
        ("#/kwargs", {"kwargs": {"nobody": 1}}),
        ("#/options/tags", {"options": {"tags": []}}),
        ("#/tags/0", {"tags": [1]}),
        ("#/description", {"description": "x" * 1001}),
        ("#/missed", {"missed": "perhaps"}),
        ("#/max_age_seconds", {"max_age_seconds": 60}),
        ("#/grace_seconds", {"grace_seconds": 0}),
        ("#/jitter_seconds", {"jitter_seconds": -1}),
        ("#/overlap", {"overlap": "some"}),
        ("#/paused", {"paused": 1}),
        ("#/nonsense", {"nonsense": 1}),
    ):
        found = post("/schedules", {**NIGHTLY, **change}, 422)
        assert [error["pointer"] for error in found["errors"]] == [pointer], change
    assert get("/schedules")["items"] == []
    assert post("/schedules/preview", {"cron": "x"}, 422)["errors"][0]["pointer"] == "#/cron"
    for path in ("/schedules/a/next?n=0", "/schedules/a/next?n=101", "/schedules/a?force=perhaps"):
        post(path, None, 400, "DELETE" if "force" in path else "GET")
