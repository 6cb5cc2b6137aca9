"""huey on Redis."""

from __future__ import annotations

import os
import threading

from huey import RedisHuey

from tests.benchmarks.peers.tally import TALLY

huey = RedisHuey("bench", url=os.environ["REDIS_URL"])


@huey.task()
def noop(number: int, text: str) -> None:
    TALLY.add()


@huey.task()
def timed(sent_at: float) -> None:
    TALLY.began(sent_at)


def set_up() -> None:
    """Redis needs none."""


def send_one(number: int, text: str) -> None:
    noop(number, text)


def send_timed(sent_at: float) -> None:
    timed(sent_at)


def work(is_over: threading.Event) -> None:
    consumer = huey.create_consumer(workers=int(os.environ["BENCH_THREADS"]), worker_type="thread", periodic=False)
    consumer.start()
    is_over.wait()
    consumer.stop(graceful=True)
