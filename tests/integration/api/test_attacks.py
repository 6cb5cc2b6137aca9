"""What somebody might send who means no good: refused cleanly, or taken for what it is."""

from __future__ import annotations

import io
from itertools import product
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from flask.testing import FlaskClient

from actors.mail import send_email
from api import document
from tests.fixtures.database import query

INJECTIONS = [
    "'; DROP TABLE pipeline.task; --",
    "' OR '1'='1",
    "x') UNION SELECT version(), 1 --",
    "%' AND pg_sleep(10) --",
    "{failed}'::text[]; SELECT 1; --",
    "$$; SELECT pg_sleep(10); $$",
    "%(actor)s",
    "%s %d %%",
    "\\'; --",
    "{{7*7}}",
    "${jndi:ldap://x.example/a}",
    "<script>alert(1)</script>",
    "😀\u202e\ufeff",
    "a" * 512,
]
#: Every parameter of the REST API that is a text, with its path; but those of streams, which do not end.
TEXTS = [
    (path, parameter["name"])
    for path, item in document.made()["paths"].items()
    for parameter in item.get("get", {}).get("parameters", [])
    if parameter["in"] == "query"
    and parameter["schema"].get("type") == "string"
    and "{" not in path
    and not path.endswith("/events")
]


@pytest.fixture
def task_id(app: object) -> str:
    return send_email.send("a@b.example", "x", "y").message_id


def test_a_text_is_a_text_wherever_it_is_sent(client: FlaskClient, database_url: str, task_id: str) -> None:
    assert len(TEXTS) > 20
    for text, (path, name) in product(INJECTIONS, TEXTS):
        answer = client.get(path, query_string={name: text})
        assert answer.status_code in {200, 400}, (path, name, answer.text)
        if answer.status_code == 200:
            assert answer.json["items"] == [], (path, name)  # type: ignore[index]
    for text, path in product(INJECTIONS, ("tasks", "queues", "workers", "actors", "gates")):
        assert client.get(f"/api/v1/{path}/{quote(text, safe='')}").status_code == 404
    assert query(database_url, "SELECT count(*) FROM pipeline.task_status") == 1


HEADERS = [
    "/api/v1/tasks?limit=1&actor=x%0d%0aSet-Cookie:%20a=b",
    "/api/v1/tasks?limit=1&nonsense%0d%0aSet-Cookie:%20a=b=1",
    "/api/v1/tasks/x%0d%0aSet-Cookie:%20a=b",
    "/api/v1/queues/x%0aSet-Cookie:%20a=b",
    "/api/v1/gates/%0d%0a%0d%0a<html>",
    "/api/v1/nothing%0d%0aSet-Cookie:%20a=b",
    "/api/v1/tasks%0d%0aSet-Cookie:%20a=b/",
]


def test_no_line_of_a_client_becomes_a_header(client: FlaskClient) -> None:
    for path in HEADERS:
        answer = client.get(path)

        assert answer.status_code in {200, 400, 404}, path
        assert "Set-Cookie" not in answer.headers, path
        assert all("\n" not in value and "\r" not in value for value in answer.headers.values()), path
        assert answer.mimetype in {"application/json", "application/problem+json"}, path


def test_the_next_part_is_linked_as_it_was_asked_for(client: FlaskClient, task_id: str) -> None:
    send_email.send("a@b.example", "x", "y")
    answer = client.get(
        "/api/v1/tasks?limit=1&queue=mail", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    )

    assert answer.headers["Link"].startswith("</api/v1/tasks?limit=1&queue=mail&cursor=")
    assert "evil" not in answer.text + answer.headers["Link"]


PATHS = [
    "/api/v1/tasks/../../etc/passwd",
    "/api/v1/tasks/..%2f..%2fetc%2fpasswd",
    "/api/v1/%2e%2e/%2e%2e/etc/passwd",
    "/api/v1/queues/..",
    "/api/v1/queues/%2e%2e%2fmail",
    "/api/v1/docs.css/../../app.py",
    "/api/v1/docs%2f..%2f..%2fapp.py",
    "/api/v1/gates/..%2f..%2f..%2fetc%2fpasswd",
    "/api/v1/tasks;x=1",
    "/api/v1/tasks/%00",
    "/api/v1/queues/mail%00",
    "/api/v1/queues/%ff%fe",
    "/api/v1/workers/1e9",
    "/api/v1/workers/-1",
    "/api/v1/workers/٣",
    "/api/v1/workers/99999999999999999999999999",
    "/api/v1/tasks/" + "x" * 4000,
    "//api/v1//tasks//",
]
QUERIES = ["actor=%ff", "%c3%28=1", "actor=%ed%a0%80", "who=%00", "a%00b=1", "actor[]=1", "=", "%"]


def test_no_path_leads_where_it_should_not(client: FlaskClient, problem: Any) -> None:
    for path in PATHS:
        answer = client.get(path)

        if answer.status_code == 308:  # werkzeug joins slashes; what is left is looked at again
            assert answer.headers["Location"].startswith(("/api/v1/", "http://localhost/api/v1/")), path
        else:
            problem(answer, 404)
        assert "root:" not in answer.text, path


def test_a_query_that_makes_no_sense_is_refused(client: FlaskClient, problem: Any) -> None:
    for path, text in product(("tasks", "audit", "stats", "gates"), QUERIES):
        problem(client.get(f"/api/v1/{path}?{text}"), 400)


def test_many_unknown_parameters_are_not_all_repeated(client: FlaskClient, problem: Any) -> None:
    query_string = "&".join(f"{'x' * 500}{number}=1" for number in range(200))

    assert len(str(problem(client.get(f"/api/v1/tasks?{query_string}"), 400))) < 10_000


def test_a_body_above_the_limit_is_not_read(client: FlaskClient, problem: Any, task_id: str) -> None:
    """Neither one that says how long it is, nor one that does not."""
    large = b'{"reason": "' + b"x" * 2_000_000 + b'"}'
    path = f"/api/tasks/{task_id}/cancel/"

    problem(client.post(path, data=large, content_type="application/json"), 413)
    problem(client.get("/api/v1/tasks", data=large, content_type="application/json"), 413)
    chunked = client.post(
        path,
        input_stream=io.BytesIO(large),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    problem(chunked, 413)
    assert client.get(f"/api/v1/tasks/{task_id}").json["state"] == "queued"  # type: ignore[index]


def test_what_a_task_holds_is_data_and_no_page(client: FlaskClient, app: object) -> None:
    script = "<script>alert('x')</script>"
    task_id = send_email.send("a@b.example", script, "\u2028").message_id

    answer = client.get(f"/api/v1/tasks/{task_id}?include=args")

    assert (answer.mimetype, answer.json["args"][1:]) == ("application/json", [script, "\u2028"])  # type: ignore[index]


@pytest.mark.parametrize("text", [r"\ud800", r"x\u0000"])
def test_nothing_is_enqueued_from_sql_that_would_break_a_list(
    client: FlaskClient, database_url: str, text: str
) -> None:
    query(database_url, "SELECT pipeline.ensure_lane_v1('default', 0)")
    for arguments in (f'["{text}"]', f'["fine", {{"{text}": 1}}]'):
        with pytest.raises(psycopg2.DataError):
            query(database_url, "SELECT pipeline.enqueue('some_actor', %s, queue => 'default')", (arguments,))

    assert client.get("/api/v1/tasks?include=args").json["items"] == []  # type: ignore[index]
