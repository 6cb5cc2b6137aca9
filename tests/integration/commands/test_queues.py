"""Pause and resume queues, on their own and as a part of something larger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from dramatiq.errors import QueueNotFound

import pipeline
from pipeline import PostgresBroker, QueueUnknown, pause_queue, resume_queue
from tests.fixtures.broker import working

Rows = Callable[..., Any]


@pytest.fixture
def greet(broker: PostgresBroker) -> Any:
    @pipeline.actor(queue_name="letters")
    def greet() -> str:
        return "hello"

    return greet


@pytest.fixture
def other(broker: PostgresBroker) -> Any:
    @pipeline.actor(queue_name="others")
    def other() -> str:
        return "hello"

    return other


def test_nothing_is_claimed_from_a_paused_queue_and_other_queues_go_on(
    broker: PostgresBroker, greet: Any, other: Any, rows: Rows
) -> None:
    with working(broker):
        greet.send().get_result(block=True)
        pause_queue("letters", who="ada", reason="out of paper")
        held = greet.send()
        for _ in range(3):  # several claims later
            other.send().get_result(block=True)
        assert rows("SELECT state FROM pipeline.task_status WHERE task_id = %s", held.message_id) == [("queued",)]

        resume_queue("letters", who="bob", reason="paper has come")
        assert held.get_result(block=True) == "hello"

    assert rows("SELECT action, who, reason, queue FROM pipeline.audit ORDER BY audit_id") == [
        ("pause", "ada", "out of paper", "letters"),
        ("resume", "bob", "paper has come", "letters"),
    ]


def test_what_runs_goes_on(broker: PostgresBroker, rows: Rows) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @pipeline.actor(queue_name="letters")
    def write() -> str:
        has_begun.set()
        may_end.wait(10)
        return "written"

    with working(broker):
        message = write.send()
        assert has_begun.wait(5)
        pause_queue("letters", who="ada")
        may_end.set()
        assert message.get_result(block=True) == "written"


def test_a_pause_can_end_by_itself(broker: PostgresBroker, greet: Any, rows: Rows) -> None:
    broker.sender.ensure_lanes([("letters", 0)])
    pause_queue("letters", who="ada", resume_after=timedelta(seconds=1))
    message = greet.send()
    assert rows("SELECT paused, paused_by, resume_at > now() FROM pipeline.queue_status") == [(True, "ada", True)]
    with working(broker):
        assert message.get_result(block=True, timeout=10_000) == "hello"

    assert rows(
        "SELECT a.started_at >= q.resume_at FROM pipeline.attempt a, pipeline.queue q WHERE q.name = 'letters'"
    ) == [(True,)]
    assert rows("SELECT paused, paused_by, pause_reason, resume_at FROM pipeline.queue_status") == [
        (False, None, None, None)
    ]


def test_pausing_again_changes_who_why_and_until_when_but_not_since_when(broker: PostgresBroker, rows: Rows) -> None:
    broker.sender.ensure_lanes([("letters", 0)])
    pause_queue("letters", who="ada", reason="out of paper")
    (since,) = rows("SELECT paused_at FROM pipeline.queue")
    pause_queue("letters", who="bob", resume_after=timedelta(hours=1))

    assert rows("SELECT paused_at FROM pipeline.queue") == [since]
    assert rows("SELECT paused_by, pause_reason, resume_at > now() FROM pipeline.queue_status") == [("bob", "", True)]


def test_resuming_what_is_not_paused_changes_nothing(broker: PostgresBroker, rows: Rows) -> None:
    broker.sender.ensure_lanes([("letters", 0)])
    resume_queue("letters", who="ada")

    assert rows("SELECT count(*) FROM pipeline.audit") == [(0,)]


def test_it_belongs_to_the_callers_transaction(broker: PostgresBroker, connect: Callable[..., Any], rows: Rows) -> None:
    broker.sender.ensure_lanes([("letters", 0)])
    connection = connect()
    pause_queue("letters", who="ada", target=connection)
    assert rows("SELECT paused FROM pipeline.queue_status") == [(False,)]
    connection.rollback()
    assert rows("SELECT paused FROM pipeline.queue_status") == [(False,)]

    pause_queue("letters", who="ada", target=connection)
    connection.commit()
    assert rows("SELECT paused FROM pipeline.queue_status") == [(True,)]


@pytest.mark.parametrize("command", [pause_queue, resume_queue])
def test_an_unknown_queue_is_an_error_of_ours_and_of_dramatiqs(
    broker: PostgresBroker, rows: Rows, command: Callable[..., None]
) -> None:
    with pytest.raises(QueueUnknown, match="There is no queue lettters") as caught:
        command("lettters", who="ada")

    assert isinstance(caught.value, QueueNotFound)
    assert rows("SELECT count(*) FROM pipeline.audit") == [(0,)]


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_pause_of_no_length_is_refused_and_changes_nothing(broker: PostgresBroker, rows: Rows, seconds: int) -> None:
    broker.sender.ensure_lanes([("letters", 0)])
    with pytest.raises(ValueError, match="must take longer"):
        pause_queue("letters", who="ada", resume_after=timedelta(seconds=seconds))

    assert rows("SELECT paused FROM pipeline.queue_status") == [(False,)]
