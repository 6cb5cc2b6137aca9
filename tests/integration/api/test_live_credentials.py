"""Who watches may do so for as long as what he has shown is good."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from flask import Flask

from api.live.live import Live
from api.live.subscription import Event, Follower, Subscription
from pipeline import PostgresBroker
from pipeline.commands.tokens import hash_of, revoke_token
from pipeline.runtime import ask
from pipeline.settings import Settings
from pipeline.store import tokens
from pipeline.store.audit import By
from tests.fixtures.tokens import authorised, make_token
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
LISTENING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pipeline live'"


@pytest.fixture(autouse=True)
def _check_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.listener._CHECK_SECONDS", 0.1)


def revoke(name: str) -> None:
    ask(revoke_token, name, by=By("test"))


def events_of(client: Subscription) -> list[Event]:
    return list(iter(lambda: client.take(0), None))


def test_who_follows_with_a_token_or_session_that_has_ended_is_sent_away_and_nobody_else(
    settings: Settings, broker: PostgresBroker, database_url: str
) -> None:
    good, bad, cookie = make_token(database_url, name="good"), make_token(database_url, name="bad"), hash_of("cookie")
    ask(tokens.begin_session, token=hash_of(good), session=cookie)
    stays, goes, logs_out = (Follower(credential=each) for each in (hash_of(good), hash_of(bad), cookie))
    with closing(Live(settings)) as live, live.joined(stays), live.joined(goes), live.joined(logs_out):
        for client in (stays, goes, logs_out):
            assert eventually(lambda client=client: client.take(0.1))  # type: ignore[misc]

        revoke("bad")
        ask(tokens.end_session, cookie)
        eventually(lambda: goes.is_refused and logs_out.is_refused)

        for gone in (goes, logs_out):
            (last,) = events_of(gone)
            assert last.is_last
            assert last.frame.startswith(b"event: refused\n")
        broker.declare_queue("new")
        assert eventually(lambda: stays.take(0.1))
        assert not stays.is_refused
        assert events_of(goes) == []


def test_a_token_that_expires_is_noticed_too(
    settings: Settings, broker: PostgresBroker, database_url: str, rows: Rows
) -> None:
    follower = Follower(credential=hash_of(make_token(database_url)))
    with closing(Live(settings)) as live, live.joined(follower):
        assert eventually(lambda: follower.take(0.1))
        rows("UPDATE pipeline.api_token SET expires_at = clock_timestamp()")

        eventually(lambda: follower.is_refused)


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/tasks/{}/events", "/api/v1/tasks/{}?wait=30"])
def test_what_is_under_way_ends_with_its_token(app: Flask, database_url: str, rows: Rows, path: str) -> None:
    rows("SELECT pipeline.ensure_lane_v1('mail', 0)")
    task_id = rows("SELECT pipeline.enqueue('greet', queue => 'mail')::text")[0][0]
    client = authorised(app.test_client(), make_token(database_url, name="short"))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, path.format(task_id), buffered=True)
        eventually(lambda: rows(LISTENING))
        revoke("short")
        ended = answer.result(timeout=20)

    if "wait" in path:
        assert ended.status_code == 401
        assert "invalid_token" in ended.headers["WWW-Authenticate"]
    else:
        assert ended.text.split("\n\n")[-2].startswith("event: refused\n")
    assert client.get("/api/v1/queues").status_code == 401
