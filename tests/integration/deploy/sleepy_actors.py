"""An actor that takes its time."""

import subprocess
import threading

from pipeline import actor


@actor(queue_name="sleepy", max_retries=0)
def sleep(seconds: float) -> None:
    """Wait. Safe to run twice."""
    threading.Event().wait(seconds)


@actor(queue_name="sleepy", max_retries=0)
def abandon(seconds: float) -> None:
    """Start a program in the background and forget it. Safe to run twice."""
    subprocess.run(["/bin/sh", "-c", f"exec setsid sleep {seconds} &"], check=True)
