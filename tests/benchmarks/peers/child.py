"""A process of a measurement: ``python -m tests.benchmarks.peers.child MODULE``.

It is asked by lines of JSON on its standard input and answers on what was its standard output; whatever a library
prints goes to the log. It ends when its input ends, so also when the one who measures is killed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.peers.system import System

TEXT = "0123456789" * 10

_PULSE_SECONDS = 0.005
_WARM_UP = 20
_END_SECONDS = 12.0


class Commands:
    """What a child can be asked for; each answer is a JSON value."""

    def __init__(self, system: System) -> None:
        self._system = system

    def versions(self, packages: list[str]) -> dict[str, str]:
        """Versions of installed packages."""
        return {package: importlib.metadata.version(package) for package in packages}

    def set_up(self) -> None:
        """Make the system's tables."""
        self._system.set_up()

    def send_for(self, seconds: float) -> float:
        """Send one by one for a while; tell the rate."""
        for number in range(_WARM_UP):
            self._system.send_one(number, TEXT)
        count, started = self.send_while(seconds)
        return count / (time.monotonic() - started)

    def send_in_threads(self, seconds: float, threads: int) -> list[tuple[int, float]]:
        """Send one by one in several threads; tell of each how many, and from when on. They begin together."""
        together = threading.Barrier(threads)

        def send(_: int) -> tuple[int, float]:
            for number in range(_WARM_UP):
                self._system.send_one(number, TEXT)
            together.wait()
            return self.send_while(seconds)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(send, range(threads)))

    def send(self, count: int) -> float:
        """Send that many one by one; tell when the first was (``time.monotonic()``)."""
        started = time.monotonic()
        for number in range(count):
            self._system.send_one(number, TEXT)
        return started

    def send_while(self, seconds: float) -> tuple[int, float]:
        """Send one by one for a while; tell how many, and when the first was."""
        count, started = 0, time.monotonic()
        while time.monotonic() < started + seconds:
            self._system.send_one(count, TEXT)
            count += 1
        return count, started

    def send_many(self, count: int) -> float:
        """Send in bulk; tell the rate."""
        started = time.perf_counter()
        self._system.send_many(count, TEXT)
        return count / (time.perf_counter() - started)

    def pulse(self, count: int) -> list[float]:
        """Send a timed task every five milliseconds; tell how many seconds each call took."""
        rest, took = threading.Event(), []
        for _ in range(count):
            sent_at = time.monotonic()
            self._system.send_timed(sent_at)
            took.append(time.monotonic() - sent_at)
            rest.wait(max(_PULSE_SECONDS - took[-1], 0))
        return took

    def work(self) -> None:
        """Work until the input ends; the answer is given before, since what follows needs the main thread."""


def main(module: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**said: Any) -> None:
        print(json.dumps(said), file=answers)

    system = None
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        command = asked.pop("do")
        try:
            system = system or importlib.import_module(module)
            answer(result=getattr(Commands(system), command)(**asked))
        except Exception:  # noqa: BLE001 - the edge of the process
            answer(error=traceback.format_exc())
        if command == "work":
            _work(system)
            return


def _work(system: System) -> None:
    is_over = threading.Event()

    def wait_for_end() -> None:
        # Not by sys.stdin: a fork would inherit its lock, taken for ever, and Celery's forks close it.
        while os.read(0, 1):
            pass
        is_over.set()
        threading.Event().wait(_END_SECONDS)
        os._exit(1)  # it does not end by itself

    threading.Thread(target=wait_for_end, daemon=True).start()
    system.work(is_over)


if __name__ == "__main__":
    main(sys.argv[1])
    # What a library left running must not keep us, such as threads of its own.
    sys.stderr.flush()
    os._exit(0)
