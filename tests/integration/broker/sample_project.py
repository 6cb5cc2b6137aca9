"""Somebody else's project, as the stock ``dramatiq`` command finds it."""

import os
import threading

import dramatiq

from pipeline import PostgresBroker

broker = PostgresBroker(url=os.environ["SAMPLE_URL"])
dramatiq.set_broker(broker)

hold = threading.Event()


@dramatiq.actor
def add(x: int, y: int) -> int:
    return x + y


@dramatiq.actor(queue_name="slow")
def take(milliseconds: int) -> str:
    hold.wait(milliseconds / 1000)
    return "done"
