"""We, with actors whose business row, result and acknowledgement are one commit; BENCH_VARIANT says by which door."""

from __future__ import annotations

import os

from sqlalchemy import text as statement

from pipeline import actor, current_task
from tests.benchmarks.peers.systems import bare, ours
from tests.benchmarks.peers.systems.ours import work
from tests.benchmarks.peers.tally import TALLY

__all__ = ["send_many", "send_one", "set_up", "work"]


@actor(queue_name="bench", max_retries=0, transactional=True)
def by_cursor(number: int, text: str) -> None:
    """Write a business row. Safe to run twice: it is in the commit that ends the task."""
    current_task().cursor().execute(bare.INSERT, (bare.payload(number, text),))
    TALLY.add()


@actor(queue_name="bench", max_retries=0, transactional=True)
def by_session(number: int, text: str) -> None:
    """Write a business row. Safe to run twice: it is in the commit that ends the task."""
    current_task().session.execute(
        statement("INSERT INTO bare (payload) VALUES (:payload)"), {"payload": bare.payload(number, text)}
    )
    TALLY.add()


chosen = {"cursor": by_cursor, "session": by_session}.get(os.environ.get("BENCH_VARIANT", ""), by_cursor)


def set_up() -> None:
    ours.set_up()
    bare.set_up()


def send_one(number: int, text: str) -> None:
    chosen.send(number, text)


def send_many(count: int, text: str) -> None:
    for first in range(0, count, 5_000):
        ours.broker.send_many(chosen.message(number, text) for number in range(first, min(first + 5_000, count)))
