"""What one writes by hand when a framework seems too much: psycopg 3, one table, batches of a hundred."""

from __future__ import annotations

import json
import os
import threading

import psycopg

from tests.benchmarks.peers.tally import TALLY

#: Insert and wake in one commit and one round trip.
SEND = "WITH sent AS (INSERT INTO by_hand (payload) VALUES (%s)) SELECT pg_notify('by_hand', '')"
CLAIM = """
DELETE FROM by_hand WHERE id IN (SELECT id FROM by_hand ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING payload
"""

_connections: list[psycopg.Connection] = []


def set_up() -> None:
    _connection().execute(
        "CREATE TABLE by_hand (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json NOT NULL)"
    )


def send_one(number: int, text: str) -> None:
    _send(json.dumps({"number": number, "text": text}))


def send_many(count: int, text: str) -> None:
    with (
        _connection().transaction(),
        _connection().cursor() as cursor,
        cursor.copy("COPY by_hand (payload) FROM STDIN") as copy,
    ):
        for number in range(count):
            copy.write_row((json.dumps({"number": number, "text": text}),))
    _connection().execute("NOTIFY by_hand")


def send_timed(sent_at: float) -> None:
    _send(json.dumps({"sent_at": sent_at}))


def _send(payload: str) -> None:
    _connection().execute(SEND, (payload,), prepare=True)


def _connection() -> psycopg.Connection:
    if not _connections:
        _connections.append(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
    return _connections[0]


def work(is_over: threading.Event) -> None:
    """Claim, run and delete a batch in one transaction; when there is none, wait to be woken."""
    connection = _connection()
    connection.execute("LISTEN by_hand")
    while not is_over.is_set():
        with connection.transaction():
            claimed = connection.execute(CLAIM, prepare=True).fetchall()
            for (task,) in claimed:
                _run(task)
        if not claimed:
            for _ in connection.notifies(timeout=0.5, stop_after=1):
                pass


def _run(task: dict[str, object]) -> None:
    if "sent_at" in task:
        TALLY.began(float(str(task["sent_at"])))
    else:
        TALLY.add()
