"""Actors that the web server has not loaded: it shows what workers have announced of them, and masks what they mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from flask import Flask
from flask.testing import FlaskClient

from pipeline import get_broker
from pipeline.broker.signatures import announcement
from pipeline.db.pool import Pool
from tests.fixtures.tokens import authorised, make_token
from tests.integration.api.v1.conftest import Get, Send

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def announce(app: Flask, rows: Rows) -> Callable[..., None]:
    """Announce a function as an actor, as a worker does that has loaded it."""

    def announce(function: Callable[..., Any], *masked: str) -> None:
        options = {"masked": masked}
        with closing(StubBroker()) as elsewhere:
            actor = dramatiq.Actor(
                function,
                broker=elsewhere,
                actor_name=function.__name__,
                queue_name="far",
                priority=0,
                options=options,
            )
            actors = [{"name": actor.actor_name, "queue": "far", "priority": 0, **announcement(actor)}]
        rows("SELECT pipeline.ensure_lane_v1('far', 0)")
        rows("SELECT pipeline.register_actors_v1(%s)", json.dumps(actors))

    return announce


@pytest.fixture
def pay(announce: Callable[..., None]) -> str:
    """An actor that masks fields of its own."""

    def pay(order: dict[str, Any], account: str = "DE0", *more: str, password: str = "") -> None:
        """Pay an order."""

    announce(pay, "Account", "holder")
    assert "pay" not in get_broker().actors
    return "pay"


@pytest.fixture
def task_id(pay: str, rows: Rows) -> str:
    """A task of that actor that has returned something."""
    arguments = json.dumps([{"number": 4711, "holder": "Ada"}, "DE1", "soon"]), json.dumps({"password": "p", "by": "x"})
    ((task_id,),) = rows("SELECT pipeline.enqueue(%s, %s, %s)::text", pay, *arguments)
    rows("DELETE FROM pipeline.ready")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at, result, result_until)"
        " SELECT id, 1, 1, 's', clock_timestamp(), %s::json, 'infinity' FROM pipeline.task",
        json.dumps({"paid": True, "account": "DE1"}),
    )
    return str(task_id)


@pytest.fixture
def reader(app: Flask, database_url: str) -> FlaskClient:
    return authorised(app.test_client(), make_token(database_url, "read", name="reader"))


def test_it_is_told_what_they_are_for_and_called_with(get: Get, pay: str) -> None:
    shown = get(f"/actors/{pay}")

    assert (shown["description"], shown["masked"]) == ("Pay an order.", ["account", "holder"])
    assert [(each["name"], each["kind"], each["default"]) for each in shown["parameters"]] == [
        ("order", "positional_or_keyword", None),
        ("account", "positional_or_keyword", "***"),
        ("more", "var_positional", None),
        ("password", "keyword_only", "***"),
    ]
    assert shown["parameters"][0]["annotation"] == "dict[str, Any]"
    assert {**get("/actors")["items"][0], "statistics": []} == shown


def test_readers_are_told_the_same(reader: FlaskClient, get: Get, pay: str) -> None:
    assert reader.get(f"/api/v1/actors/{pay}").json == get(f"/actors/{pay}")


def test_what_was_announced_before_there_was_more_to_tell_is_shown_without(get: Get, app: Flask, rows: Rows) -> None:
    rows("INSERT INTO pipeline.actor (name, queue, priority) VALUES ('old', 'far', 0)")

    shown = get("/actors/old")

    assert (shown["description"], shown["parameters"], shown["masked"]) == (None, None, [])


def test_arguments_and_results_are_masked_as_the_actor_wants(get: Get, task_id: str) -> None:
    shown = get(f"/tasks/{task_id}", include="args,kwargs,result")
    (listed,) = get("/tasks", include="args,kwargs,result")["items"]

    for task in (shown, listed):
        assert task["args"] == [{"number": 4711, "holder": "***"}, "***", "soon"]
        assert task["kwargs"] == {"password": "***", "by": "x"}
        assert task["result"] == {"paid": True, "account": "***"}


def test_so_are_results_where_older_code_asks_for_them(client: FlaskClient, task_id: str) -> None:
    shown = client.get(f"/api/tasks/{task_id}/status/").json
    (listed,) = client.get("/api/tasks/?state=all").json["tasks"]  # type: ignore[index]

    assert shown["result"] == listed["result"] == {"paid": True, "account": "***"}  # type: ignore[index]


def test_tasks_of_other_actors_are_not(get: Get, pay: str, send: Send) -> None:
    task_id = send(kwargs={"account": "DE1", "password": "p"})

    assert get(f"/tasks/{task_id}", fields="kwargs") == {"kwargs": {"account": "DE1", "password": "***"}}


def test_schedules_are_masked_too_and_what_the_audit_trail_says_of_them(get: Get, pay: str, rows: Rows) -> None:
    schedule = {
        "kind": "interval",
        "expression": "1h",
        "actor": pay,
        "args": [{"number": 1}, "DE1"],
        "kwargs": {"holder": "Ada"},
    }
    for changes in ({}, {"args": [{"number": 2}, "DE2"]}):
        rows(
            "SELECT pipeline.put_schedule_v1('fees', %s, NULL, NULL, false, 'ada', '')", json.dumps(schedule | changes)
        )

    shown = get("/schedules/fees")
    edited, added = (each for each in get("/audit")["items"] if each["schedule"] == "fees")

    assert (shown["args"], shown["kwargs"]) == ([{"number": 2}, "***"], {"holder": "***"})
    assert get("/schedules")["items"] == [shown]
    assert [
        (each["args"], each["kwargs"]) for each in (added["new_value"], edited["old_value"], edited["new_value"])
    ] == [
        ([{"number": 1}, "***"], {"holder": "***"}),
        ([{"number": 1}, "***"], {"holder": "***"}),
        ([{"number": 2}, "***"], {"holder": "***"}),
    ]


def test_of_an_actor_that_nobody_has_announced_no_argument_by_position_is_shown(
    get: Get, announce: Callable[..., None], rows: Rows
) -> None:
    rows("SELECT pipeline.ensure_lane_v1('far', 0)")
    ((task_id,),) = rows("SELECT pipeline.enqueue('strange', '[1, 2]', '{\"a\": 1}', queue => 'far')::text")

    assert get(f"/tasks/{task_id}", fields="args,kwargs") == {"args": ["***", "***"], "kwargs": {"a": 1}}


@pytest.fixture
def one_connection(app: Flask, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let there be one connection for all that is asked and done over HTTP."""
    pool = Pool(lambda: database_url, maxconn=1, timeout_seconds=2)
    monkeypatch.setattr(get_broker(), "readings", pool)
    yield
    pool.closeall()


def test_who_acts_in_a_transaction_wants_no_second_connection(
    client: FlaskClient, send: Send, one_connection: None
) -> None:
    """Or as many requests as there are connections would wait for each other."""
    task_id = send(delay=60_000)

    refused = client.post(f"/api/v1/tasks/{task_id}/snooze", json={"seconds": 60}, headers={"If-Match": '"other"'})

    assert refused.status_code == 412
