"""Unmodified dramatiq-pg."""

from __future__ import annotations

import os
import threading
from contextlib import closing

import dramatiq_pg
import psycopg2

from tests.benchmarks.peers.systems import dramatiq_worker

broker = dramatiq_pg.PostgresBroker(url=os.environ["DATABASE_URL"], middleware=dramatiq_worker.middleware())
noop, timed = dramatiq_worker.actors(broker)


def set_up() -> None:
    with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(dramatiq_pg.generate_init_sql())


def send_one(number: int, text: str) -> None:
    noop.send(number, text)


def send_timed(sent_at: float) -> None:
    timed.send(sent_at)


def work(is_over: threading.Event) -> None:
    dramatiq_worker.work(broker, is_over)
