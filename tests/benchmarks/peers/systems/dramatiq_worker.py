"""What the three systems on a stock Dramatiq share: its actors and its worker."""

from __future__ import annotations

import os
import threading

import dramatiq
from dramatiq.middleware import Middleware, Prometheus, default_middleware

from tests.benchmarks.peers.tally import TALLY


def middleware() -> list[Middleware]:
    """Dramatiq's defaults; with BENCH_VARIANT=lean without Prometheus, as we run."""
    is_lean = os.environ.get("BENCH_VARIANT") == "lean"
    return [kind() for kind in default_middleware if not (is_lean and kind is Prometheus)]


def actors(broker: dramatiq.Broker) -> tuple[dramatiq.Actor, dramatiq.Actor]:
    """Declare the two actors on a broker."""
    dramatiq.set_broker(broker)
    return dramatiq.actor(noop, queue_name="bench"), dramatiq.actor(timed, queue_name="bench")


def noop(number: int, text: str) -> None:
    TALLY.add()


def timed(sent_at: float) -> None:
    TALLY.began(sent_at)


def work(broker: dramatiq.Broker, is_over: threading.Event) -> None:
    broker.emit_after("process_boot")  # as its command line does; without it Prometheus would fail at each task
    worker = dramatiq.Worker(broker, worker_threads=int(os.environ["BENCH_THREADS"]))
    worker.start()
    is_over.wait()
    worker.stop(timeout=5_000)
