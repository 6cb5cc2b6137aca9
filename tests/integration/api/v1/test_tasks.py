"""Tasks in the REST API."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from pipeline.settings import Settings
from tests.fixtures.tokens import authorised
from tests.integration.api.v1.conftest import Get, Send


def ids(page: Any) -> list[str]:
    return [task["task_id"] for task in page["items"]]


def test_a_list_is_read_in_pieces_while_it_grows(client: FlaskClient, get: Get, send: Send) -> None:
    sent = [send() for _ in range(5)]
    seen, page = [], get("/tasks", limit=2)
    while True:
        seen += ids(page)
        send()
        if page["next_cursor"] is None:
            break
        page = get("/tasks", limit=2, cursor=page["next_cursor"])

    assert seen == sent[::-1]


def test_the_next_part_is_linked(client: FlaskClient, send: Send) -> None:
    first, _ = send(), send()
    answer = client.get("/api/v1/tasks?limit=1&queue=mail&fields=task_id")

    link = answer.headers["Link"]
    assert link.endswith('>; rel="next"')
    second = client.get(link[1 : link.index(">")])
    assert second.json == {"items": [{"task_id": first}], "next_cursor": None, "searched_to": None}
    assert "Link" not in second.headers


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=²", "limit"),
        ("limit=1_0", "limit"),
        ("cursor=x", "cursor"),
        ("state=pending", "state"),
        ("state=", "state"),
        ("state=queued,", "state"),
        ("nonsense=1", "nonsense"),
        ("actor=%00", "actor"),
        ("actor=", "actor"),
        ("fields=nothing", "fields"),
        ("include=task_id", "include"),
        ("include=&include=", "include"),
    ],
)
def test_wrong_parameters_are_named(client: FlaskClient, problem: Any, query: str, wrong: str) -> None:
    found = problem(client.get(f"/api/v1/tasks?{query}"), 400)

    assert found["type"] == "urn:pipeline:problem:invalid-parameters"
    assert [each["name"] for each in found["invalid_params"]] == [wrong]


def test_a_cursor_is_good_for_the_same_question_only(client: FlaskClient, get: Get, problem: Any, send: Send) -> None:
    for _ in range(3):
        send()
    cursor = get("/tasks", limit=1, state="queued")["next_cursor"]

    assert get("/tasks", limit=2, state="queued", cursor=cursor)["next_cursor"] is None
    for other in ({}, {"state": "failed"}, {"state": "queued", "queue": "mail"}):
        problem(client.get("/api/v1/tasks", query_string={"cursor": cursor, **other}), 400)
    for forged in (cursor[:-1], cursor[1:], cursor + "A", "." + cursor, cursor.swapcase()):
        problem(client.get("/api/v1/tasks", query_string={"cursor": forged, "state": "queued"}), 400)


def test_all_web_servers_of_a_database_agree_on_cursors(
    client: FlaskClient, get: Get, database_url: str, token: str, problem: Any, send: Send
) -> None:
    """By the key that the database keeps, or by the one that they were given."""
    send(), send()
    cursor = get("/tasks", limit=1)["next_cursor"]
    other, keyed, also_keyed = (
        authorised(create_app(Settings(database_url=database_url, secret_key=key)).test_client(), token)
        for key in (None, "k" * 32, "k" * 32)
    )

    assert other.get(f"/api/v1/tasks?cursor={cursor}").status_code == 200
    problem(keyed.get(f"/api/v1/tasks?cursor={cursor}"), 400)
    keyed_cursor = keyed.get("/api/v1/tasks?limit=1").json["next_cursor"]  # type: ignore[index]
    assert also_keyed.get(f"/api/v1/tasks?cursor={keyed_cursor}").status_code == 200
    problem(client.get(f"/api/v1/tasks?cursor={keyed_cursor}"), 400)


def test_large_fields_are_shown_to_who_asks_for_them(get: Get, send: Send) -> None:
    task_id = send()

    assert not {"args", "kwargs", "result", "error"} & get("/tasks")["items"][0].keys()
    assert get("/tasks", include="args,error")["items"][0]["args"] == ["a@b.example", "x", "y"]
    assert get("/tasks", fields="task_id,state")["items"] == [{"task_id": task_id, "state": "queued"}]
    assert get(f"/tasks/{task_id}", fields="kwargs", include="args") == {
        "args": ["a@b.example", "x", "y"],
        "kwargs": {},
    }


def test_one_task_is_shown_and_not_sent_twice(client: FlaskClient, send: Send) -> None:
    task_id = send()
    first = client.get(f"/api/v1/tasks/{task_id}")

    assert first.json is not None
    assert first.json["state"] == "queued"
    assert {"error", "created_at", "tags"} <= first.json.keys()
    again = client.get(f"/api/v1/tasks/{task_id}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-000000000000", "abc", "%00", "'; --"])
def test_an_unknown_task_is_unknown(client: FlaskClient, problem: Any, task_id: str) -> None:
    assert problem(client.get(f"/api/v1/tasks/{task_id}"), 404)["type"] == "urn:pipeline:problem:task-not-found"


def test_who_wants_no_json_gets_none(client: FlaskClient, problem: Any) -> None:
    problem(client.get("/api/v1/tasks", headers={"Accept": "text/html"}), 406)
    assert client.get("/api/v1/tasks", headers={"Accept": "text/html, */*;q=0.1"}).status_code == 200
