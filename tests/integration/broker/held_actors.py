"""Actors of worker processes that a test stops."""

import threading

import pipeline


@pipeline.actor(queue_name="held", max_retries=0)
def doze(seconds: float) -> None:
    """Take so much time."""
    threading.Event().wait(seconds)
