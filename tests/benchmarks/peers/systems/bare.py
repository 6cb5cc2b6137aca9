"""No queue at all: one table, a bigint key and a JSON payload; INSERT + COMMIT with psycopg2, prepared once."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing

import psycopg2

INSERT = "INSERT INTO bare (payload) VALUES (%s)"

_local = threading.local()


def payload(number: int, text: str) -> str:
    """As many bytes as the message of a task has in our table."""
    return json.dumps({"args": [number, text], "kwargs": {}, "options": {}, "message_timestamp": 1_700_000_000_000})


def set_up() -> None:
    with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json NOT NULL)")


def send_one(number: int, text: str) -> None:
    _cursor().execute("EXECUTE bare (%s)", (payload(number, text),))


def send_timed(sent_at: float) -> None:
    send_one(0, repr(sent_at))


def _cursor() -> psycopg2.extensions.cursor:
    """That of this thread, on a connection of its own."""
    if not hasattr(_local, "cursor"):
        _local.connection = psycopg2.connect(os.environ["DATABASE_URL"])
        _local.connection.autocommit = True
        _local.cursor = _local.connection.cursor()
        _local.cursor.execute("PREPARE bare (json) AS INSERT INTO bare (payload) VALUES ($1)")
    return _local.cursor
