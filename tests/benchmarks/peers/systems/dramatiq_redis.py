"""Dramatiq on Redis."""

from __future__ import annotations

import os
import threading

from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks.peers.systems import dramatiq_worker

broker = RedisBroker(url=os.environ["REDIS_URL"], middleware=dramatiq_worker.middleware())
noop, timed = dramatiq_worker.actors(broker)


def set_up() -> None:
    """Redis needs none."""


def send_one(number: int, text: str) -> None:
    noop.send(number, text)


def send_timed(sent_at: float) -> None:
    timed.send(sent_at)


def work(is_over: threading.Event) -> None:
    dramatiq_worker.work(broker, is_over)
