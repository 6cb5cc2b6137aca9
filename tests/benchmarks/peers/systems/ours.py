"""We: history, results, leases and fences on, as shipped."""

from __future__ import annotations

import os
import threading

import dramatiq

import pipeline
from pipeline import logs
from pipeline.db import migrate
from pipeline.settings import get_settings
from pipeline.supervisor import collector
from tests.benchmarks.peers.tally import TALLY

logs.configure(get_settings())
broker = pipeline.get_broker()


@pipeline.actor(queue_name="bench")
def noop(number: int, text: str) -> None:
    TALLY.add()


@pipeline.actor(queue_name="bench")
def timed(sent_at: float) -> None:
    TALLY.began(sent_at)


def set_up() -> None:
    migrate.migrate(os.environ["DATABASE_URL"], "pipeline")


def send_one(number: int, text: str) -> None:
    noop.send(number, text)


def send_many(count: int, text: str) -> None:
    for first in range(0, count, 5_000):
        broker.send_many(noop.message(number, text) for number in range(first, min(first + 5_000, count)))


def send_timed(sent_at: float) -> None:
    timed.send(sent_at)


def work(is_over: threading.Event) -> None:
    collector.relax()  # as each process of ``pipeline worker`` does
    worker = dramatiq.Worker(broker, worker_threads=int(os.environ["BENCH_THREADS"]))
    worker.start()
    is_over.wait()
    worker.stop(timeout=5_000)
