"""Processes of a measurement: ``python -m tests.benchmarks.child work|send SIDE ARGS``."""

import importlib
import signal
import sys
import threading
import time

import dramatiq

from pipeline import logs
from pipeline.settings import get_settings

TEXT = "0123456789" * 10


def work(side: str, threads: str) -> None:
    """Run a Dramatiq worker until told to stop."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    worker = dramatiq.Worker(module.broker, worker_threads=int(threads))
    worker.start()
    is_over.wait()
    worker.stop(timeout=5_000)


def send(side: str, seconds: str) -> None:
    """Send one by one for a while; print the rate."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    for number in range(20):
        module.noop.send(number, TEXT)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(seconds):
        module.noop.send(count, TEXT)
        count += 1
    print(count / (time.perf_counter() - started))


def send_each(side: str, count: str) -> None:
    """Send so many, one by one."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    for number in range(int(count)):
        module.noop.send(number, TEXT)


def fill(side: str, count: str, name: str = "noop") -> None:
    """Send many to an actor, in bulk where that is possible; print the rate."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    actor = getattr(module, name)
    started = time.perf_counter()
    if hasattr(module.broker, "send_many"):
        for first in range(0, int(count), 5_000):
            last = min(first + 5_000, int(count))
            module.broker.send_many(actor.message(number, TEXT) for number in range(first, last))
    else:
        for number in range(int(count)):
            actor.send(number, TEXT)
    print(int(count) / (time.perf_counter() - started))


def pulse(side: str, count: str) -> None:
    """Send one task every five milliseconds, with the time."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    rest = threading.Event()
    for _ in range(int(count)):
        module.timed.send(time.monotonic())
        rest.wait(0.005)


def stream(side: str, schedule: str) -> None:
    """Send ``count@rate``: so many tasks at so many a second, each with the time; print the rate that was kept."""
    module = importlib.import_module(f"tests.benchmarks.{side}")
    count, rate = (float(part) for part in schedule.split("@"))
    rest, started = threading.Event(), time.monotonic()
    for number in range(int(count)):
        rest.wait(max(started + number / rate - time.monotonic(), 0))
        module.timed.send(time.monotonic())
    print(count / (time.monotonic() - started))


if __name__ == "__main__":
    logs.configure(get_settings())
    globals()[sys.argv[1]](*sys.argv[2:])
