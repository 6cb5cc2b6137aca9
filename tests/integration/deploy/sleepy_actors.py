"""An actor that takes its time."""

import threading

from pipeline import actor


@actor(queue_name="sleepy", max_retries=0)
def sleep(seconds: float) -> None:
    """Wait. Safe to run twice."""
    threading.Event().wait(seconds)
