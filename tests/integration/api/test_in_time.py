"""Answers come in time, or it is said that they do not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from actors.mail import send_email
from api.app import create_app
from pipeline import DatabaseUnavailable, PostgresBroker, get_broker
from pipeline.settings import Settings
from tests.fixtures.process_broker import process_broker
from tests.fixtures.wait import eventually

QUICK = 0.2


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, http_statement_seconds=QUICK)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.fixture
def lock(connect: Callable[..., Any]) -> Callable[[str], None]:
    """Keep everybody out of a table until the test ends."""

    def take(table: str) -> None:
        connect().cursor().execute(f"LOCK TABLE pipeline.{table} IN ACCESS EXCLUSIVE MODE")

    return take


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("task", "/api/v1/tasks"),
        ("task", "/api/v1/tasks/00000000-0000-4000-8000-000000000000"),
        ("task", "/api/tasks/"),
        ("ready", "/api/v1/queues"),
        ("worker", "/api/v1/workers"),
        ("worker", "/api/v1/stats"),
        ("audit", "/api/v1/audit"),
    ],
)
@pytest.mark.leaves("transaction")
def test_a_question_that_takes_too_long_is_given_up(
    client: FlaskClient, problem: Any, lock: Callable[[str], None], table: str, path: str
) -> None:
    assert client.get("/api/v1/gates").status_code == 200
    lock(table)

    with within(1.5):
        found = problem(client.get(path), 504)

    assert (found["type"], found["detail"]) == (
        "urn:pipeline:problem:query-timed-out",
        "The answer was not found within 0.2 s; ask for less",
    )
    assert client.get("/api/v1/gates").status_code == 200


@pytest.mark.parametrize(
    ("table", "path", "body"),
    [
        ("queue", "/api/v1/queues/mail/pause", {}),
        ("gate", "/api/v1/gates/key:a/pause", {}),
        ("ready", "/api/v1/tasks/cancel", {"filter": {"queue": "mail"}, "dry_run": False}),
        ("ready", "/api/v1/tasks/{}/cancel", {}),
        ("ready", "/api/tasks/{}/cancel/", {}),
        ("task", "/api/v1/tasks", {"actor": "send_email", "args": ["a@b.example", "x", "y"]}),
    ],
)
@pytest.mark.leaves("transaction")
def test_a_command_that_takes_too_long_is_given_up_and_has_done_nothing(
    client: FlaskClient,
    problem: Any,
    connect: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    path: str,
    body: Any,
) -> None:
    monkeypatch.setattr("api.blueprints.v1.task_bulk._SECONDS", QUICK)
    task_id = send_email.send("a@b.example", "x", "y").message_id
    assert client.get("/api/v1/gates").status_code == 200
    blocker = connect()
    blocker.cursor().execute(f"LOCK TABLE pipeline.{table} IN ACCESS EXCLUSIVE MODE")

    with within(1.5):
        problem(client.post(path.format(task_id), json=body), 504)

    blocker.rollback()
    assert {each["action"] for each in client.get("/api/v1/audit").get_json()["items"]} == {"create_token"}
    assert client.get(f"/api/v1/tasks/{task_id}").get_json()["state"] == "queued"


@pytest.mark.leaves("transaction")
def test_a_server_that_falls_silent_is_away(
    client: FlaskClient, problem: Any, lock: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was stopped: it does not even keep the time that it was given."""
    assert client.get("/api/v1/gates").status_code == 200
    lock("audit")
    monkeypatch.setattr("pipeline.store.metrics.limit_time", lambda *_: None)

    with within(2):
        answer = client.get("/api/v1/audit")

    assert problem(answer, 503)["type"] == "urn:pipeline:problem:database-unavailable"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.leaves("transaction")
@pytest.mark.parametrize("is_silent", [False, True])
def test_so_it_is_where_it_is_asked_who_asks(
    client: FlaskClient, problem: Any, lock: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    assert client.get("/api/v1/gates").status_code == 200
    lock("api_token")
    if is_silent:
        monkeypatch.setattr("pipeline.store.metrics.limit_time", lambda *_: None)

    with within(2):
        problem(client.get("/api/v1/gates"), 503 if is_silent else 504)


@pytest.mark.leaves("transaction")
def test_when_all_connections_are_in_use_that_is_said_soon(
    app: Flask, client: FlaskClient, problem: Any, settings: Settings
) -> None:
    assert client.get("/api/v1/gates").status_code == 200
    pool = get_broker().readings
    taken = [pool.getconn() for _ in range(pool.maxconn)]
    try:
        with within(3):
            problem(client.get("/api/v1/gates"), 503)
    finally:
        for connection in taken:
            pool.putconn(connection)
    assert client.get("/api/v1/gates").status_code == 200


def test_a_web_process_has_no_more_connections_than_it_may(database_url: str) -> None:
    with closing(PostgresBroker(settings=Settings(database_url=database_url, http_connections=2))) as broker:
        pool = broker.readings
        taken = [pool.getconn(), pool.getconn()]
        with within(3), pytest.raises(DatabaseUnavailable, match="all 2 connections"):
            pool.getconn()
        for connection in taken:
            pool.putconn(connection)


def test_a_connection_that_the_server_has_closed_is_opened_anew(
    client: FlaskClient, connect: Callable[..., Any]
) -> None:
    assert client.get("/api/v1/gates").status_code == 200
    connect(autocommit=True).cursor().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    eventually(lambda: client.get("/api/v1/gates").status_code == 200, within=1)


@pytest.mark.parametrize(
    ("listens", "path"),
    [
        (False, "/api/v1/tasks"),
        (False, "/api/tasks/"),
        (False, "/readyz"),
        (False, "/api/orders/import"),
        (True, "/api/v1/tasks"),
    ],
)
def test_a_database_that_is_away_is_told_within_three_seconds(problem: Any, listens: bool, path: str) -> None:
    """Nobody is there, or somebody who does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not listens:
            listener.close()
        url = f"postgresql://somebody:secret@127.0.0.1:{port}/erp"
        with process_broker(url):
            client = create_app(Settings(database_url=url)).test_client()
            with within(3):
                answer = client.post(path) if "import" in path else client.get(path)

            found = problem(answer, 503)
            assert (found["type"], found["detail"]) == (
                "urn:pipeline:problem:database-unavailable",
                "PostgreSQL does not answer; try again in a moment.",
            )
            assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/livez").status_code == 200
