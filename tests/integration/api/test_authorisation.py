"""Every route is closed to those who may not: each of them, with each kind of caller, as the map of routes has them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient

from api import security
from api.auth import is_public, needed_scope, who
from api.scopes import Scope
from pipeline.store.tokens import SCOPES
from tests.fixtures.database import query
from tests.fixtures.tokens import bearer, make_token

Headers = Callable[[str], dict[str, str]]

#: What is open to everybody, from anywhere. Whoever adds to these has thought about it.
PUBLIC = {"GET /", "GET /healthz", "GET /readyz", "GET /login", "POST /api/v1/session", "GET /static/<path:filename>"}
#: What changes something and yet needs no more than ``read``: logging out.
CHANGES_OF_READERS = {"DELETE /api/v1/session"}

PARAMETER = re.compile(r"<(?:(\w+)(?:\([^)]*\))?:)?\w+>")
NO_TASK = "00000000-0000-4000-8000-000000000000"
FROM_ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}
NOBODY = {"nobody", "expired", "revoked", "wrong", "malformed", "basic"}


@pytest.fixture
def headers(app: Flask, database_url: str, rows: Any) -> Headers:
    """What each kind of caller shows."""

    def shown(caller: str) -> dict[str, str]:
        if caller == "nobody":
            return {}
        if caller == "wrong":
            return bearer("tq_" + "x" * 43)
        if caller == "malformed":
            return bearer("tq_' OR true --")
        if caller == "basic":
            return {"Authorization": "Basic YTpi"}
        secret = make_token(database_url, caller if caller in SCOPES else "admin", name=caller)
        if caller == "expired":
            rows("UPDATE pipeline.api_token SET expires_at = clock_timestamp() - interval '1 s' WHERE name = 'expired'")
        if caller == "revoked":
            rows("SELECT pipeline.revoke_api_token_v1('revoked', 'test', '')")
        return bearer(secret)

    return shown


def routes(app: Flask) -> Iterator[tuple[str, str, Any]]:
    """Each route with each of its methods, and the view."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - ({"OPTIONS"} if rule.provide_automatic_options else set())):
            yield f"{method} {rule.rule}", method, app.view_functions[rule.endpoint]


def is_open(app: Flask, view: Any) -> bool:
    with app.test_request_context(environ_base=FROM_ELSEWHERE):
        return is_public(view)


def expected(app: Flask, caller: str, method: str, view: Any) -> set[int]:
    """The statuses that tell whether somebody was let in."""
    if is_open(app, view):
        return set()
    if caller in NOBODY:
        return {401}
    return set() if SCOPES.index(caller) >= SCOPES.index(needed_scope(view, method)) else {403}


@pytest.mark.parametrize("caller", [*sorted(NOBODY), *SCOPES])
def test_every_route_lets_in_whom_it_should_and_nobody_else(app: Flask, headers: Headers, caller: str) -> None:
    client = app.test_client()
    shown = headers(caller)
    wrong = []
    for route, method, view in routes(app):
        path = PARAMETER.sub(lambda found: "1" if found[1] == "int" else NO_TASK, route.partition(" ")[2])
        answer = client.open(path, method=method, headers=shown, environ_base=FROM_ELSEWHERE, buffered=False)
        refused = {answer.status_code} & {401, 403}
        assert answer.status_code < 500, (route, answer.text)
        if refused != expected(app, caller, method, view) and not (is_open(app, view) and refused == {401}):
            wrong.append((route, answer.status_code))
        answer.close()

    assert wrong == []


def test_what_is_open_to_everybody_is_what_was_meant_to_be(app: Flask) -> None:
    found = {route for route, method, view in routes(app) if is_open(app, view) and method not in {"HEAD", "OPTIONS"}}

    assert found == PUBLIC


def test_what_changes_something_needs_more_than_to_read(app: Flask) -> None:
    changing = [
        (route, needed_scope(view, method))
        for route, method, view in routes(app)
        if method not in {"GET", "HEAD", "OPTIONS"}
    ]

    assert {route for route, scope in changing if scope is Scope.READ} == CHANGES_OF_READERS
    assert len(changing) > len(CHANGES_OF_READERS)


def test_a_view_that_nobody_thought_about_is_closed(app: Flask, headers: Headers) -> None:
    forgotten = Blueprint("forgotten", __name__)
    forgotten.get("/forgotten")(lambda: "seen")
    forgotten.post("/forgotten", endpoint="post")(lambda: "done")
    app.register_blueprint(forgotten)
    client = app.test_client()

    assert client.get("/forgotten").status_code == client.post("/forgotten").status_code == 401
    reader = headers("read")
    assert client.get("/forgotten", headers=reader).text == "seen"
    assert client.post("/forgotten", headers=reader).status_code == 403


def test_the_scopes_of_the_api_are_those_of_the_database() -> None:
    assert tuple(Scope) == SCOPES


def test_who_shows_nothing_is_told_what_to_show(stranger: FlaskClient, problem: Any) -> None:
    answer = stranger.get("/api/tasks/")

    assert problem(answer, 401)["type"] == "urn:pipeline:problem:unauthorized"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pipeline"'


@pytest.mark.parametrize(
    ("caller", "complaint"),
    [
        ("wrong", "There is no such token"),
        ("expired", "expired"),
        ("revoked", "revoked"),
        ("malformed", "no such token"),
    ],
)
def test_who_shows_a_token_that_is_not_good_is_told_so(
    stranger: FlaskClient, headers: Headers, problem: Any, caller: str, complaint: str
) -> None:
    answer = stranger.get("/api/tasks/", headers=headers(caller))

    assert complaint in problem(answer, 401)["detail"]
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_who_may_not_is_told_what_it_takes(stranger: FlaskClient, headers: Headers, problem: Any) -> None:
    answer = stranger.post("/api/tasks/x/cancel/", headers=headers("read"))

    found = problem(answer, 403)
    assert (found["type"], found["needed_scope"], found["scope"]) == (
        "urn:pipeline:problem:forbidden",
        "operate",
        "read",
    )
    assert 'error="insufficient_scope", scope="operate"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_token_is_shown_in_any_spelling_of_the_scheme(stranger: FlaskClient, token: str, scheme: str) -> None:
    assert stranger.get("/api/tasks/", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_a_token_in_the_address_is_none(stranger: FlaskClient, token: str) -> None:
    assert stranger.get(f"/api/v1/session?access_token={token}&token={token}").status_code == 401


def test_a_token_that_was_revoked_is_refused_from_the_next_request_on(client: FlaskClient, rows: Any) -> None:
    assert client.get("/api/v1/session").status_code == 200
    rows("SELECT pipeline.revoke_api_token_v1('tester', 'test', '')")
    assert client.get("/api/v1/session").status_code == 401


def test_a_token_that_is_held_by_somebody_keeps_nobody_waiting(client: FlaskClient, connect: Any) -> None:
    """Somebody locks its row: only when it was last used stays unknown."""
    holder = connect()
    with holder.cursor() as cursor:
        cursor.execute("SELECT FROM pipeline.api_token FOR UPDATE")
        assert client.get("/api/v1/session").status_code == 200
        cursor.execute("SELECT last_used_at FROM pipeline.api_token")
        assert cursor.fetchone() == (None,)
    holder.rollback()
    assert client.get("/api/v1/session").status_code == 200


def test_what_is_done_over_http_is_noted_with_the_tokens_name(client: FlaskClient, database_url: str) -> None:
    from actors.mail import send_email

    task_id = send_email.send("a@b.example", "x", "y").message_id
    client.post(f"/api/tasks/{task_id}/cancel/", json={"reason": "doppelt"})

    question = "SELECT who || ' ' || source || ' ' || reason FROM pipeline.audit_log WHERE action = 'cancel'"
    assert query(database_url, question) == "tester api doppelt"


def test_programs_of_this_machine_read_metrics_without_a_token(stranger: FlaskClient) -> None:
    assert stranger.get("/metrics").status_code == 200
    answer = stranger.get("/metrics", environ_base={"REMOTE_ADDR": "::1"}, headers={"Host": "[::1]:8000"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.7", {}),
        ("", {}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}),
        ("127.0.0.1", {"Host": "rebound.example:8000"}),
        ("127.0.0.1", {"Host": "127.0.0.1.rebound.example"}),
        ("127.0.0.1", {"Host": ""}),
    ],
)
def test_others_need_one_as_do_proxies_and_pages_of_others(
    stranger: FlaskClient, token: str, address: str, shown: dict[str, str]
) -> None:
    environment = {"REMOTE_ADDR": address}

    assert stranger.get("/metrics", environ_base=environment, headers=shown).status_code == 401
    assert stranger.get("/metrics", environ_base=environment, headers={**shown, **bearer(token)}).status_code == 200


def test_which_methods_there_are_is_no_secret_and_asking_runs_no_view(app: Flask, stranger: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        answer = stranger.options(rule.rule)
        assert (answer.status_code, answer.data) == (200, b""), rule


def everything_kept(database_url: str) -> str:
    """All rows of all our tables, as text."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'pipeline'::regnamespace AND relkind IN ('r', 'p')"
        )
        tables = [name for (name,) in cursor.fetchall()]
        texts = []
        for table in tables:
            cursor.execute(f"SELECT string_agg(t::text, ' ') FROM {table} t")
            texts.append(str(cursor.fetchone()[0]))
    assert len(tables) > 20
    return "\n".join(texts)


def test_no_secret_is_in_a_table_a_log_or_an_answer(
    app: Flask, database_url: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is done with a token: used, shown where it is not good, exchanged for a session, refused."""
    caplog.set_level(logging.DEBUG)
    client = app.test_client()
    wrong = "tq_" + "w" * 43
    answers = [
        client.get("/api/v1/session", headers=bearer(token)),
        client.get("/api/v1/session", headers=bearer(wrong)),
        client.get(f"/login?code={wrong}"),
        client.post("/api/v1/session", json={"token": wrong}),
        client.post("/api/v1/session", json={"token": token}),
        client.post("/api/tasks/x/cancel/", headers=bearer(token), json={"reason": "x"}),
    ]
    cookie = client.get_cookie("pipeline_session")
    assert cookie is not None
    answers.append(client.get("/api/v1/session"))

    told = everything_kept(database_url) + caplog.text + "".join(answer.text for answer in answers)
    assert "request.refused" in caplog.text
    assert "login.refused" in caplog.text
    assert "tester" in told
    assert [secret for secret in (token, token[3:], wrong, wrong[3:], cookie.value) if secret in told] == []


def test_only_our_part_of_somebody_elses_application_is_protected(app: Flask, token: str) -> None:
    part = Blueprint("part", __name__, url_prefix="/tasks")
    part.get("/ours")(lambda: who())
    security.register(part)
    theirs = Flask("theirs")
    theirs.extensions["pipeline"] = app.extensions["pipeline"]
    theirs.register_blueprint(part)
    theirs.get("/theirs")(lambda: "open")
    client = theirs.test_client()

    assert client.get("/tasks/ours").status_code == 401
    ours = client.get("/tasks/ours", headers=bearer(token))
    assert (ours.text, ours.headers["Cache-Control"]) == ("tester", "no-store")
    open_page = client.get("/theirs")
    assert (open_page.text, "Content-Security-Policy" in open_page.headers) == ("open", False)


def test_a_request_within_another_shows_its_own_token(app: Flask, client: FlaskClient) -> None:
    app.get("/outer")(lambda: str(app.test_client().get("/api/v1/session").status_code))

    assert client.get("/outer").text == "401"
