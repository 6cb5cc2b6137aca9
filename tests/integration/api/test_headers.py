"""What every answer tells a browser, and which pages of others may ask."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from api.app import create_app
from api.extensions import db
from pipeline.settings import Settings
from tests.fixtures.tokens import authorised

PROTECTED = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/tasks/", 200),
        ("GET", "/api/tasks/?limit=x", 400),
        ("GET", "/nothing", 404),
        ("PUT", "/api/tasks/", 405),
        ("GET", "/login?code=x", 401),
        ("POST", "/api/tasks/x/cancel/", 404),
        ("OPTIONS", "/api/tasks/", 200),
    ],
)
def test_every_answer_is_protected(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method)

    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in PROTECTED} == PROTECTED
    assert "geolocation=()" in answer.headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in answer.headers
    assert not {name for name, _ in answer.headers if name.startswith("Access-Control-")}


def test_even_one_that_nobody_expected(app: Flask, token: str) -> None:
    app.get("/breaks")(lambda: 1 / 0)
    answer = authorised(app.test_client(), token).get("/breaks")

    assert answer.status_code == 500
    assert {name: answer.headers.get(name) for name in PROTECTED} == PROTECTED


def test_a_view_may_say_how_its_answer_is_kept(app: Flask, token: str) -> None:
    app.get("/stream")(lambda: Response("", headers={"Cache-Control": "no-cache, no-transform"}))

    answer = authorised(app.test_client(), token).get("/stream")

    assert answer.headers.get_all("Cache-Control") == ["no-cache, no-transform"]


def test_over_https_browsers_are_told_to_stay_there(client: FlaskClient) -> None:
    answer = client.get("/healthz", base_url="https://erp.example")

    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.fixture
def open_to(database_url: str, app: Flask, token: str) -> Any:
    """A client of an application that lets pages of some origins in."""
    made = []

    def make(origins: str) -> FlaskClient:
        made.append(create_app(Settings(database_url=database_url, cors_origins=origins)))
        return made[-1].test_client()

    yield make
    for other in made:
        with other.app_context():
            db.engine.dispose()


def asked_first(client: FlaskClient, origin: str) -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    return client.options("/api/tasks/x/cancel/", headers=headers)


def test_pages_of_an_origin_that_is_allowed_may_ask_with_a_token(
    open_to: Callable[[str], FlaskClient], token: str
) -> None:
    client = open_to(f"{SHOP}, https://other.example:8443")

    preflight = asked_first(client, SHOP)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == SHOP
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]

    answer = authorised(client, token).get("/api/tasks/", headers={"Origin": SHOP})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, SHOP)
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://shop.example", "https://shop.example.evil.example", "*"]
)
def test_other_pages_are_told_nothing(open_to: Callable[[str], FlaskClient], token: str, origin: str) -> None:
    client = open_to(SHOP)

    for answer in (
        asked_first(client, origin),
        authorised(client, token).get("/api/tasks/", headers={"Origin": origin}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


def test_a_body_that_is_no_upload_has_a_small_limit(client: FlaskClient, problem: Any) -> None:
    body = {"reason": "x" * 2_097_152}

    problem(client.post("/api/tasks/x/cancel/", json=body), 413)


def test_a_body_that_says_nothing_of_its_length_has_it_too(client: FlaskClient, problem: Any) -> None:
    body = io.BytesIO(b'{"reason": "' + b"x" * 2_097_152)
    environment = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    answer = client.post(
        "/api/tasks/x/cancel/", input_stream=body, environ_base=environment, content_type="application/json"
    )
    problem(answer, 413)


def test_who_is_refused_is_refused_before_the_body_is_read(stranger: FlaskClient) -> None:
    class Body(io.BytesIO):
        was_read = False

        def read(self, *size: Any) -> bytes:
            self.was_read = True
            return super().read(*size)

    body = Body(b"x" * 1000)
    answer = stranger.post("/api/orders/import", input_stream=body, content_length=1000)

    assert (answer.status_code, body.was_read) == (401, False)
