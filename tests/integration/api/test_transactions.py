"""Sends in a request belong to its session."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, stream_with_context
from flask.testing import FlaskClient
from sqlalchemy import text

from actors.mail import send_email
from api.extensions import db
from tests.fixtures.database import query
from tests.fixtures.tokens import authorised


def send() -> str:
    return str(send_email.send("a@b.example", "x", "y").message_id)


views = Blueprint("views", __name__)


@views.post("/commits")
def commits() -> dict[str, str]:
    task_id = send()
    db.session.commit()
    return {"task_id": task_id}


@views.post("/forgets")
def forgets() -> dict[str, str]:
    return {"task_id": send()}


@views.post("/forgets-the-second")
def forgets_the_second() -> dict[str, str]:
    commits()
    return {"task_id": send()}


@views.post("/aborts")
def aborts() -> None:
    send()
    abort(409, "no")


@views.post("/breaks")
def breaks() -> None:
    send()
    db.session.execute(text("SELECT 1/0"))


@views.post("/rolls-back")
def rolls_back() -> dict[str, str]:
    send()
    db.session.rollback()
    return {}


@views.post("/once")
def once() -> dict[str, str]:
    message = send_email.send_with_options(args=("a@b.example", "x", "y"), unique_key="k", on_conflict="error")
    db.session.commit()
    return {"task_id": message.message_id}


@views.post("/streams")
def streams() -> Any:
    def lines() -> Iterator[str]:
        send()
        yield "done"

    return stream_with_context(lines())


@pytest.fixture
def client(app: Flask, token: str) -> FlaskClient:
    """A client of an application with views that do what one should, and what one should not."""
    app.register_blueprint(views)
    return authorised(app.test_client(), token)


def tasks(database_url: str) -> object:
    return query(database_url, "SELECT count(*) FROM pipeline.task_status")


def test_a_commit_makes_the_task(client: FlaskClient, database_url: str) -> None:
    answer = client.post("/commits")

    question = "SELECT state FROM pipeline.task_status WHERE task_id = %s"
    assert query(database_url, question, (answer.json["task_id"],)) == "queued"  # type: ignore[index]


@pytest.mark.parametrize(("path", "made"), [("/forgets", 0), ("/forgets-the-second", 1)])
def test_an_uncommitted_send_is_never_answered_as_if_it_were_one(
    client: FlaskClient, database_url: str, problem: Any, path: str, made: int
) -> None:
    found = problem(client.post(path), 500)

    assert found["type"] == "urn:pipeline:problem:enqueue-not-committed"
    assert f"POST {path} sent tasks and did not commit db.session" in found["detail"]
    assert tasks(database_url) == made


def test_it_is_committed_where_the_application_wants_that(app: Flask, client: FlaskClient, database_url: str) -> None:
    app.config["COMMIT_SENDS"] = True

    assert client.post("/forgets").status_code == 200
    assert client.post("/aborts").status_code == 409
    assert tasks(database_url) == 1


@pytest.mark.parametrize(("path", "status"), [("/aborts", 409), ("/breaks", 500), ("/rolls-back", 200)])
def test_a_request_that_takes_it_back_leaves_no_task(
    client: FlaskClient, database_url: str, path: str, status: int
) -> None:
    assert client.post(path).status_code == status
    assert tasks(database_url) == 0


def test_a_key_that_is_held_is_a_conflict(client: FlaskClient, database_url: str, problem: Any) -> None:
    first = client.post("/once").json

    found = problem(client.post("/once"), 409)

    assert (found["type"], found["task_id"]) == ("urn:pipeline:problem:duplicate-task", first["task_id"])  # type: ignore[index]
    assert tasks(database_url) == 1


def test_the_next_request_knows_nothing_of_it(client: FlaskClient, database_url: str) -> None:
    for path in ("/aborts", "/breaks", "/forgets"):
        client.post(path)
    client.post("/commits")
    assert tasks(database_url) == 1


def test_a_send_after_the_answer_has_begun_is_reported(
    client: FlaskClient, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.post("/streams").text == "done"
    assert tasks(database_url) == 0
    assert "request.sends_lost" in caplog.text


def test_outside_requests_a_send_is_sent_at_once(app: Flask, database_url: str) -> None:
    with app.app_context():
        send()
    assert tasks(database_url) == 1
