"""Our side of the comparison: the actors, declared on a broker of ours."""

import os
import time
from pathlib import Path

import pipeline
from tests.benchmarks.counter import Counter

path, directory = os.environ.get("BENCH_COUNTER"), os.environ.get("BENCH_COUNTERS")
counter = Counter(Path(path)) if path else Counter.create(Path(directory) / str(os.getpid())) if directory else None
broker = pipeline.get_broker()


@pipeline.actor(queue_name="bench", store_results=False)
def noop(number: int, text: str) -> None:
    """Do nothing but count."""
    counter.add()  # type: ignore[union-attr]


@pipeline.actor(queue_name="bench", store_results=False, transactional=True)
def book(number: int, text: str) -> None:
    """Write a business row. Safe to run twice: it is in the commit that ends the task."""
    payload = f'{{"args":[{number},"{text}"],"kwargs":{{}},"options":{{}}}}'
    pipeline.current_task().cursor().execute("INSERT INTO bare (payload) VALUES (%s)", (payload,))
    counter.add()  # type: ignore[union-attr]


@pipeline.actor(queue_name="bench", store_results=False)
def timed(sent_at: float) -> None:
    """Tell how long it took to begin."""
    counter.sample(time.monotonic() - sent_at)  # type: ignore[union-attr]
