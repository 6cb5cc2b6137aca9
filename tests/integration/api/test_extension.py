"""The extension in an application of somebody else: its models, its database session, its prefix, its error pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, jsonify
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actors.mail import send_email
from api.extension import Pipeline
from pipeline import EnqueueNotCommitted, TaskNotFound, cancel
from pipeline.db.dsn import Dsn
from pipeline.settings import Settings
from tests.fixtures.database import query
from tests.fixtures.process_broker import process_broker


class Base(DeclarativeBase):
    pass


shop_db = SQLAlchemy(model_class=Base)


class Customer(shop_db.Model):  # type: ignore[name-defined,misc]
    """A model of the shop's own."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


shop = Blueprint("tasks", __name__)  # a name that we have, too


def welcome(name: str) -> str:
    shop_db.session.add(Customer(name=name))
    return str(send_email.send(f"{name}@b.example", "x", "y").message_id)


@shop.post("/customers/<name>")
def create(name: str) -> Any:
    task_id = welcome(name)
    shop_db.session.commit()
    return jsonify(task_id=task_id)


@shop.post("/customers/<name>/then-none")
def roll_back(name: str) -> Any:
    welcome(name)
    shop_db.session.rollback()
    return jsonify(ok=True)


@shop.post("/customers/<name>/broken")
def break_(name: str) -> Any:
    welcome(name)
    shop_db.session.execute(text("SELECT 1/0"))


@shop.post("/customers/<name>/forgotten")
def forget(name: str) -> Any:
    return jsonify(task_id=welcome(name))


@shop.get("/gone")
def gone() -> Any:
    abort(404)


@shop.get("/unknown")
def unknown() -> Any:
    raise TaskNotFound("x")


@pytest.fixture
def host(database_url: str) -> Iterator[Flask]:
    """A shop that has the task queue behind /queue."""
    app = Flask("shop", static_folder=None)
    app.config["SQLALCHEMY_DATABASE_URI"] = Dsn.parse(database_url).sqlalchemy
    app.register_error_handler(404, lambda error: ("the shop has no such page", 404))
    app.register_error_handler(500, lambda error: ("the shop is broken", 500))
    app.json.sort_keys = True  # type: ignore[attr-defined]
    shop_db.init_app(app)
    with process_broker(database_url):
        Pipeline(app, shop_db, url_prefix="/queue", settings=Settings(database_url=database_url))
        app.register_blueprint(shop)
        with app.app_context():
            shop_db.create_all()
        yield app
        with app.app_context():
            shop_db.engine.dispose()


@pytest.fixture
def client(host: Flask) -> FlaskClient:
    return host.test_client()


def made(database_url: str) -> tuple[object, object]:
    """How many customers and tasks there are."""
    return (
        query(database_url, "SELECT count(*) FROM customer"),
        query(database_url, "SELECT count(*) FROM pipeline.task_status"),
    )


def test_a_commit_makes_the_rows_and_the_task(client: FlaskClient, database_url: str) -> None:
    answer = client.post("/customers/ada")

    assert made(database_url) == (1, 1)
    shown = client.get(f"/queue/api/v1/tasks/{answer.json['task_id']}").json  # type: ignore[index]
    assert (shown["state"], shown["actor"]) == ("queued", "send_email")  # type: ignore[index]


@pytest.mark.parametrize(("what", "status"), [("then-none", 200), ("broken", 500)])
def test_a_rollback_makes_neither(client: FlaskClient, database_url: str, what: str, status: int) -> None:
    assert client.post(f"/customers/ada/{what}").status_code == status
    assert made(database_url) == (0, 0)


def test_a_forgotten_commit_is_an_error_of_the_hosts_own(host: Flask, client: FlaskClient, database_url: str) -> None:
    answer = client.post("/customers/ada/forgotten")

    assert (answer.status_code, answer.text) == (500, "the shop is broken")
    assert made(database_url) == (0, 0)
    host.testing = True
    with pytest.raises(EnqueueNotCommitted, match="POST /customers/ada/forgotten sent tasks"):
        client.post("/customers/ada/forgotten")


def test_its_error_pages_stay_its_own(client: FlaskClient) -> None:
    for path in ("/gone", "/nothing", "/queueing/nothing", "/api/v1/tasks"):
        assert client.get(path).text == "the shop has no such page"
    assert client.get("/unknown").text == "the shop is broken"
    assert client.put("/gone").mimetype == "text/html"


def test_ours_are_problems(client: FlaskClient, problem: Any) -> None:
    problem(client.get("/queue/nothing"), 404)
    problem(client.get("/queue"), 404)
    problem(client.get("/queue/api/v1/tasks/x"), 404)
    problem(client.get("/queue/api/v1/tasks?nonsense=1"), 400)
    assert "GET" in client.put("/queue/api/v1/tasks").headers["Allow"]
    problem(client.put("/queue/api/v1/tasks"), 405)


def test_a_mistake_of_ours_is_a_problem_without_details(
    host: Flask, client: FlaskClient, problem: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("SELECT secret FROM 10.0.0.7:5432")

    monkeypatch.setattr("api.blueprints.v1.gates.read", fail)
    host.register_error_handler(Exception, lambda error: ("the shop knows better", 500))
    answer = client.get("/queue/api/v1/gates")

    assert problem(answer, 500)["type"] == "urn:pipeline:problem:internal-error"
    assert [word for word in ("secret", "10.0.0.7", "RuntimeError", "Traceback") if word in answer.text] == []
    assert "10.0.0.7" in caplog.text


def test_routes_have_the_prefix_and_answers_are_as_everywhere(client: FlaskClient) -> None:
    task_id = client.post("/customers/ada").json["task_id"]  # type: ignore[index]

    assert client.get("/queue/livez").json == {"status": "alive"}
    assert client.get("/queue/readyz/").json == {"status": "ready", "workers": 0}
    assert client.get("/queue/openapi.json").json["servers"] == [{"url": "/queue"}]  # type: ignore[index]
    assert client.get("/queue/api/v1/docs").text.count("/queue/api/v1/") == 2
    assert b"pipeline_tasks" in client.get("/queue/metrics").data
    status = client.get(f"/queue/api/tasks/{task_id}/status")
    assert next(iter(json.loads(status.data))) == "task_id"
    assert "T" in status.json["created_at"]  # type: ignore[index]
    client.post("/customers/bob")
    link = client.get("/queue/api/v1/tasks?limit=1").headers["Link"]
    assert link.startswith("</queue/api/v1/tasks?limit=1&cursor=")
    assert client.get(link[1 : link.index(">")]).json["items"][0]["task_id"] == task_id  # type: ignore[index]


def test_who_commands_through_our_routes_is_noted_as_the_api(
    host: Flask, client: FlaskClient, database_url: str
) -> None:
    ours, own = (client.post("/customers/ada").json["task_id"] for _ in range(2))  # type: ignore[index]
    client.post(f"/queue/api/tasks/{ours}/cancel/")
    with host.test_request_context("/gone"):
        cancel(own, who="shop")

    sources = query(database_url, "SELECT array_agg(source || ' ' || who ORDER BY audit_id) FROM pipeline.audit_log")
    assert sources == ["api api", "python shop"]


def test_flask_pipeline_is_our_command_line(
    host: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    task_id = client.post("/customers/ada").json["task_id"]  # type: ignore[index]
    monkeypatch.setattr("pipeline.cli.environment.prepare", lambda: Settings(database_url=database_url))
    run = host.test_cli_runner().invoke

    shown = run(args=["pipeline", "task", "show", task_id, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["state"] == "queued"
    assert "mail" in run(args=["pipeline", "status"]).output
    unknown = run(args=["pipeline", "task", "show", "x"])
    assert (unknown.exit_code, "There is no task x" in unknown.output) == (5, True)


def test_without_a_session_sends_are_sent_at_once(database_url: str) -> None:
    app = Flask("bare")
    with process_broker(database_url):
        Pipeline(app, settings=Settings(database_url=database_url))
        app.add_url_rule("/send", view_func=lambda: send_email.send("a@b.example", "x", "y").message_id)
        client = app.test_client()
        task_id = client.get("/send").text

        assert client.get(f"/pipeline/api/v1/tasks/{task_id}").json["state"] == "queued"  # type: ignore[index]
