"""Dramatiq's own worker on its broker in memory: no I/O at all, so what its threads can do at best."""

from __future__ import annotations

import threading

from dramatiq.brokers.stub import StubBroker

from tests.benchmarks.peers.systems import dramatiq_worker

broker = StubBroker(middleware=dramatiq_worker.middleware())
noop, timed = dramatiq_worker.actors(broker)


def set_up() -> None:
    """Memory needs none."""


def send_one(number: int, text: str) -> None:
    noop.send(number, text)


def send_timed(sent_at: float) -> None:
    timed.send(sent_at)


def work(is_over: threading.Event) -> None:
    dramatiq_worker.work(broker, is_over)
