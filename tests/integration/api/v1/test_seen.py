"""Of two who have seen the same thing and change it at the same time, the second is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fixtures.wait import eventually
from tests.integration.api.v1.conftest import Post, Send

Rows = Callable[..., list[tuple[Any, ...]]]

_WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_DAILY = {"name": "daily", "actor": "send_email", "every": "24h", "args": ["a@b.example", "x", "y"]}


@pytest.mark.parametrize(
    ("thing", "verb", "method", "body", "meanwhile"),
    [
        ("queues/mail", "", "PATCH", {"max_running": 1}, "SELECT pipeline.limit_queue_v1('mail', 2, 'eve', '')"),
        ("queues/mail", "/pause", "POST", {}, "SELECT pipeline.weigh_queue_v1('mail', 2, 'eve', '')"),
        ("queues/mail", "/flush", "POST", {}, "SELECT pipeline.pause_queue_v1('mail', 'eve', '', NULL)"),
        ("gates/key:new", "", "PATCH", {"max_running": 1}, "SELECT pipeline.limit_gate_v1('key:new', 2, 'eve', '')"),
        ("gates/key:new", "/pause", "POST", {}, "SELECT pipeline.limit_gate_v1('key:new', 2, 'eve', '')"),
        ("schedules/daily", "", "PATCH", {"priority": 1}, "UPDATE pipeline.schedule SET version = version + 1"),
        ("schedules/daily", "", "DELETE", None, "UPDATE pipeline.schedule SET version = version + 1"),
        ("schedules/daily", "/run", "POST", {}, "UPDATE pipeline.schedule SET version = version + 1"),
    ],
)
def test_nobody_changes_a_thing_between_the_look_and_the_command(
    client: FlaskClient,
    post: Post,
    send: Send,
    connect: Callable[..., Any],
    rows: Rows,
    thing: str,
    verb: str,
    method: str,
    body: Any,
    meanwhile: str,
) -> None:
    send()
    post("/schedules", _DAILY, 201)
    read = "resume" if thing.startswith("gates") else ""  # one without a rule is not there, but tells what it is then
    seen = client.open(f"/api/v1/{thing}/{read}", method="POST" if read else "GET").headers["ETag"]
    other = connect()
    other.cursor().execute(meanwhile)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(
            client.open, f"/api/v1/{thing}{verb}", method=method, json=body, headers={"If-Match": seen}
        )
        eventually(lambda: rows(_WAITING))
        other.commit()

        assert answer.result(timeout=20).status_code == 412
