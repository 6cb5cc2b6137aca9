"""Browsers: logging in and out, the cookie, and what proves that a page of ours asks."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.extensions import db
from pipeline.commands.tokens import hash_of
from pipeline.runtime import ask
from pipeline.settings import Settings
from pipeline.store import tokens
from tests.fixtures.tokens import make_token
from tests.fixtures.wait import eventually

SESSION = "/api/v1/session"
COOKIE = "pipeline_session"
HTTPS = {"base_url": "https://erp.example"}


@pytest.fixture
def browser(app: Flask, token: str) -> FlaskClient:
    """A client that has logged in as ``tester`` and shows its cookie only."""
    client = app.test_client()
    assert client.post(SESSION, json={"token": token}).status_code == 201
    return client


def csrf_of(browser: FlaskClient, **more: Any) -> dict[str, str]:
    return {"X-CSRF-Token": browser.get(SESSION, **more).json["csrf_token"]}  # type: ignore[index]


@pytest.fixture
def new_code(token: str) -> Callable[..., str]:
    """Make the code of a login URL."""
    numbers = iter(range(100))

    def make(lifetime_ms: int = 60_000) -> str:
        code = f"code-{next(numbers)}"
        assert ask(tokens.create_login, token=hash_of(token), code=hash_of(code), lifetime_ms=lifetime_ms)
        return code

    return make


def test_a_browser_logs_in_with_a_token_and_learns_who_it_is(app: Flask, token: str) -> None:
    client = app.test_client()
    begun = client.post(SESSION, json={"token": token})

    shown = client.get(SESSION).json
    assert begun.json == shown
    assert (shown["name"], shown["scope"], shown["scopes"]) == ("tester", "operate", ["read", "operate"])
    assert len(shown["csrf_token"]) == 64
    assert client.get("/api/tasks/").status_code == 200


def test_who_shows_a_token_learns_who_it_is_and_needs_no_other_proof(client: FlaskClient) -> None:
    shown = client.get(SESSION).json

    assert (shown["name"], shown["csrf_token"]) == ("tester", None)
    assert client.post("/api/tasks/x/cancel/").status_code == 404


def test_a_login_url_begins_one_session(app: Flask, new_code: Callable[..., str], problem: Any) -> None:
    first, second = app.test_client(), app.test_client()
    code = new_code()
    assert first.head(f"/login?code={code}").status_code == 204

    answer = first.get(f"/login?code={code}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/api/v1/docs")
    assert first.get(SESSION).json["name"] == "tester"

    assert "used already" in problem(second.get(f"/login?code={code}"), 401)["detail"]
    assert second.get(SESSION).status_code == 401


def test_of_many_who_show_one_code_at_once_one_is_let_in(app: Flask, new_code: Callable[..., str]) -> None:
    code = new_code()
    start = threading.Barrier(8)

    def log_in(_: int) -> int:
        client = app.test_client()
        start.wait(10)
        return client.get(f"/login?code={code}").status_code

    with ThreadPoolExecutor(8) as clients:
        assert sorted(clients.map(log_in, range(8))) == [303] + [401] * 7


def test_who_comes_while_a_code_is_being_used_up_waits_and_finds_none(
    connect: Any, rows: Any, new_code: Callable[..., str]
) -> None:
    statement, code = "SELECT * FROM pipeline.redeem_api_login_v1(%s, %s)", hash_of(new_code())
    first, second = connect(), connect(autocommit=True)
    with first.cursor() as one, second.cursor() as other:
        one.execute(statement, (code, hash_of("a")))
        assert len(one.fetchall()) == 1
        late = threading.Thread(target=other.execute, args=(statement, (code, hash_of("b"))))
        late.start()
        eventually(lambda: rows("SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s", second.info.backend_pid))
        first.commit()
        late.join(10)
        assert other.fetchall() == []
    assert len(rows("SELECT 1 FROM pipeline.api_session")) == 1


@pytest.mark.parametrize("code", ["", "code=", "code=unknown", "code=%00", "code=%ff", "code=tq_x"])
def test_a_code_that_is_none_lets_nobody_in(stranger: FlaskClient, problem: Any, code: str) -> None:
    problem(stranger.get(f"/login?{code}"), 401)


def test_a_code_is_good_for_a_while(
    stranger: FlaskClient, new_code: Callable[..., str], problem: Any, rows: Any
) -> None:
    code = new_code()
    rows("UPDATE pipeline.api_login SET expires_at = clock_timestamp()")

    problem(stranger.get(f"/login?code={code}"), 401)


@pytest.mark.parametrize("body", [{}, {"token": 1}, {"token": None}, [], "x", {"token": {"token": "x"}}])
def test_a_login_without_a_token_is_explained(stranger: FlaskClient, problem: Any, body: Any) -> None:
    problem(stranger.post(SESSION, json=body), 422)


@pytest.mark.parametrize("token", ["", "tq_", "tq_" + "x" * 43, "tq_" + "é" * 43, "x" * 10_000])
def test_a_token_that_is_none_begins_no_session(stranger: FlaskClient, problem: Any, token: str) -> None:
    problem(stranger.post(SESSION, data=json.dumps({"token": token}), content_type="application/json"), 401)


def test_a_token_that_is_no_text_begins_none_either(stranger: FlaskClient, problem: Any) -> None:
    problem(stranger.post(SESSION, data=rb'{"token": "tq_\ud800"}', content_type="application/json"), 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_no_form_of_another_site_can_log_a_browser_in(stranger: FlaskClient, token: str, kind: str) -> None:
    answer = stranger.post(SESSION, data=f'{{"token": "{token}"}}', content_type=kind)

    assert answer.status_code == 415
    assert stranger.post(SESSION, json={"token": token}, headers={"Origin": "https://evil.example"}).status_code == 403


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(app: Flask, token: str) -> None:
    cookie = app.test_client().post(SESSION, json={"token": token}).headers["Set-Cookie"]

    assert cookie.startswith(f"{COOKIE}=")
    assert cookie.partition("; ")[2].split("; ") == ["HttpOnly", "Path=/", "SameSite=Strict"]


def test_over_https_it_is_bound_to_this_host_and_to_https(app: Flask, token: str) -> None:
    client = app.test_client()
    cookie = client.post(SESSION, json={"token": token}, **HTTPS).headers["Set-Cookie"]

    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert cookie.partition("; ")[2].split("; ") == ["Secure", "HttpOnly", "Path=/", "SameSite=Strict"]
    assert client.get(SESSION, **HTTPS).json["name"] == "tester"


def test_a_cookie_that_was_planted_under_the_plain_name_counts_for_nothing_over_https(
    browser: FlaskClient, app: Flask
) -> None:
    value = browser.get_cookie(COOKIE).value  # type: ignore[union-attr]

    assert app.test_client().get(SESSION, headers={"Cookie": f"{COOKIE}={value}"}, **HTTPS).status_code == 401


def test_every_login_has_a_cookie_of_its_own(app: Flask, token: str) -> None:
    """Also where the browser shows one that somebody gave it before."""
    client = app.test_client()
    client.set_cookie(COOKIE, "planted")
    client.post(SESSION, json={"token": token})
    first = client.get_cookie(COOKIE).value  # type: ignore[union-attr]
    client.post(SESSION, json={"token": token})

    assert len({"planted", first, client.get_cookie(COOKIE).value}) == 3  # type: ignore[union-attr]


def test_who_logs_out_is_out(browser: FlaskClient, app: Flask, rows: Any) -> None:
    value = browser.get_cookie(COOKIE).value  # type: ignore[union-attr]

    assert browser.delete(SESSION, headers=csrf_of(browser)).status_code == 204

    assert browser.get_cookie(COOKIE) is None
    assert app.test_client().get(SESSION, headers={"Cookie": f"{COOKIE}={value}"}).status_code == 401
    assert rows("SELECT 1 FROM pipeline.api_session") == []


def test_a_token_stays_when_its_holder_logs_out(client: FlaskClient) -> None:
    assert client.delete(SESSION).status_code == 204
    assert client.get(SESSION).status_code == 200


@pytest.mark.parametrize(
    "end",
    [
        "SELECT pipeline.revoke_api_token_v1('tester', 'test', '')",
        "UPDATE pipeline.api_token SET expires_at = clock_timestamp()",
        "UPDATE pipeline.api_session SET seen_at = clock_timestamp() - interval '12 hours'",
        "UPDATE pipeline.api_session SET ends_at = clock_timestamp()",
    ],
    ids=["its token is revoked", "its token expires", "nobody uses it", "it is a week old"],
)
def test_a_session_ends_when(browser: FlaskClient, rows: Any, problem: Any, end: str) -> None:
    assert browser.get(SESSION).status_code == 200
    rows(end)

    assert "log in again" in problem(browser.get(SESSION), 401)["detail"]


def test_a_session_that_is_used_goes_on_but_not_beyond_a_week(browser: FlaskClient, rows: Any) -> None:
    rows("UPDATE pipeline.api_session SET seen_at = clock_timestamp() - interval '11 hours'")
    assert browser.get(SESSION).status_code == 200

    assert rows(
        "SELECT clock_timestamp() - seen_at < interval '1 minute', ends_at <= begun_at + interval '7 days' FROM pipeline.api_session"
    ) == [(True, True)]


def test_sessions_that_are_over_are_forgotten_with_the_next_login(
    app: Flask, token: str, rows: Any, new_code: Callable[..., str]
) -> None:
    for _ in range(3):
        app.test_client().post(SESSION, json={"token": token})
    new_code()
    rows("UPDATE pipeline.api_session SET ends_at = clock_timestamp()")
    rows("UPDATE pipeline.api_login SET expires_at = clock_timestamp()")

    app.test_client().post(SESSION, json={"token": token})

    assert rows("SELECT (SELECT count(*) FROM pipeline.api_session), (SELECT count(*) FROM pipeline.api_login)") == [
        (1, 0)
    ]


def test_a_token_that_is_wrong_is_not_made_good_by_a_cookie(browser: FlaskClient) -> None:
    assert browser.get(SESSION, headers={"Authorization": "Bearer tq_" + "x" * 43}).status_code == 401


CANCEL = "/api/tasks/x/cancel/"


def test_what_changes_something_needs_the_proof_of_the_session(browser: FlaskClient, problem: Any) -> None:
    assert problem(browser.post(CANCEL), 403)["type"] == "urn:pipeline:problem:csrf-failed"
    assert browser.post(CANCEL, headers={"X-CSRF-Token": "x"}).status_code == 403
    assert browser.post(CANCEL, headers={"X-CSRF-Token": "é"}).status_code == 403
    assert browser.delete(SESSION).status_code == 403
    assert browser.post(CANCEL, headers=csrf_of(browser)).status_code == 404


def test_the_proof_of_another_session_is_none(browser: FlaskClient, app: Flask, token: str) -> None:
    other = app.test_client()
    other.post(SESSION, json={"token": token})

    assert browser.post(CANCEL, headers=csrf_of(other)).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost", 404),
        ("https://localhost", 404),
        ("http://localhost:8000", 403),
        ("https://localhost.evil.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_a_page_of_another_origin_is_refused_whatever_it_knows(browser: FlaskClient, origin: str, status: int) -> None:
    assert browser.post(CANCEL, headers={**csrf_of(browser), "Origin": origin}).status_code == status


def test_a_session_may_do_what_its_token_may(app: Flask, database_url: str, problem: Any) -> None:
    reader = app.test_client()
    reader.post(SESSION, json={"token": make_token(database_url, "read", name="reader")})

    assert reader.get("/api/tasks/").status_code == 200
    assert problem(reader.post(CANCEL, headers=csrf_of(reader)), 403)["needed_scope"] == "operate"


@pytest.fixture
def another_app(database_url: str, app: Flask) -> Any:
    """What another process of the same database serves."""
    other = create_app(Settings(database_url=database_url))
    yield other
    with other.app_context():
        db.engine.dispose()


def test_a_session_and_its_proof_hold_in_every_process(browser: FlaskClient, another_app: Flask) -> None:
    value = browser.get_cookie(COOKIE).value  # type: ignore[union-attr]
    elsewhere = another_app.test_client()
    elsewhere.set_cookie(COOKIE, value)

    assert elsewhere.get(SESSION).json == browser.get(SESSION).json
    assert elsewhere.post(CANCEL, headers=csrf_of(browser)).status_code == 404


def test_a_key_that_is_given_is_the_one_that_is_used(database_url: str, app: Flask, token: str, rows: Any) -> None:
    proofs = set()
    value = "a" * 43
    for key in ("k" * 32, "l" * 32, None):
        other = create_app(Settings(database_url=database_url, secret_key=key))
        with other.app_context():
            from api import csrf

            proofs.add(csrf.token_for(value))
            assert rows("SELECT count(*) FROM pipeline.api_secret") == [(0 if key else 1,)]
    assert len(proofs) == 3


def log_ins(client: FlaskClient, times: int, **environment: str) -> list[int]:
    return [client.get("/login?code=x", environ_base=environment).status_code for _ in range(times)]


def test_an_address_may_try_to_log_in_ten_times_over_all_processes(
    stranger: FlaskClient, another_app: Flask, problem: Any, token: str
) -> None:
    assert log_ins(stranger, 5) == [401] * 5
    assert log_ins(another_app.test_client(), 5) == [401] * 5

    answer = stranger.get("/login?code=x")
    assert problem(answer, 429)["type"] == "urn:pipeline:problem:too-many-requests"
    assert answer.headers["Retry-After"] == "60"
    assert another_app.test_client().post(SESSION, json={"token": token}).status_code == 429
    assert log_ins(stranger, 1, REMOTE_ADDR="192.0.2.7") == [401]


def test_many_at_once_get_ten_tries_and_no_more(app: Flask) -> None:
    with ThreadPoolExecutor(6) as clients:
        statuses = list(clients.map(lambda _: log_ins(app.test_client(), 5), range(6)))

    assert Counter(chain.from_iterable(statuses)) == {401: 10, 429: 20}


def test_after_a_while_it_may_try_again(stranger: FlaskClient, rows: Any) -> None:
    log_ins(stranger, 11)
    rows("UPDATE pipeline.rate_limit SET expires_at = clock_timestamp()")

    assert log_ins(stranger, 1) == [401]


def test_the_addresses_of_one_ipv6_network_count_as_one(stranger: FlaskClient) -> None:
    for last in range(10):
        assert log_ins(stranger, 1, REMOTE_ADDR=f"2001:db8:0:1::{last:x}") == [401]

    assert log_ins(stranger, 1, REMOTE_ADDR="2001:db8:0:1:ffff::1") == [429]
    assert log_ins(stranger, 1, REMOTE_ADDR="2001:db8:0:2::1") == [401]


@pytest.mark.parametrize(("proxies", "address"), [(0, "127.0.0.1"), (1, "192.0.2.2"), (2, "192.0.2.1")])
def test_whom_a_proxy_names_is_believed_only_of_as_many_as_were_configured(
    database_url: str, app: Flask, rows: Any, proxies: int, address: str
) -> None:
    other = create_app(Settings(database_url=database_url, http_proxies=proxies))
    forwarded = {"X-Forwarded-For": "192.0.2.1, 192.0.2.2", "X-Forwarded-Proto": "https"}

    seen = other.test_client().get("/login?code=x", headers=forwarded)

    assert rows("SELECT key FROM pipeline.rate_limit") == [(f"api login {address}",)]
    assert ("Strict-Transport-Security" in seen.headers) == (proxies == 1)
