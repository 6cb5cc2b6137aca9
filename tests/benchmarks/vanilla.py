"""The other side: the same actors on an unmodified dramatiq-pg."""

import os
import time
from pathlib import Path

import dramatiq
import dramatiq_pg
from dramatiq.middleware import Prometheus, default_middleware

from tests.benchmarks.counter import Counter

path = os.environ.get("BENCH_COUNTER")
counter = Counter(Path(path)) if path else None
# Its Prometheus needs Dramatiq's own command line, and costs it time; ours has none either.
kept = [kind() for kind in default_middleware if kind is not Prometheus]
broker = dramatiq_pg.PostgresBroker(url=os.environ["DATABASE_URL"], middleware=kept)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def noop(number: int, text: str) -> None:
    """Do nothing but count."""
    counter.add()  # type: ignore[union-attr]


@dramatiq.actor(queue_name="bench")
def timed(sent_at: float) -> None:
    """Tell how long it took to begin."""
    counter.sample(time.monotonic() - sent_at)  # type: ignore[union-attr]
