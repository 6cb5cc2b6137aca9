"""A few programs that run together: started in order, stopped in the opposite order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from pipeline.supervisor.process import Process, describe, start
from pipeline.supervisor.signals import STOP, Signals

_SLEEP_SECONDS = 5.0


class Services:
    """Programs that end together. Use it in the main thread, as a context: whatever happens, none outlives the block.

    A program that ends by itself ends all: each of them replaces its own worker processes, so one that ends anyway has
    a reason that starting it again would only hide.
    """

    def __init__(self, say: Callable[[str], None], *, stop_seconds: float) -> None:
        self._say = say
        self._stop_seconds = stop_seconds
        self._running: dict[str, Process] = {}
        self._watched: dict[str, Callable[[], int | None]] = {}
        self._signals = Signals(*STOP, signal.SIGHUP, signal.SIGCHLD)

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self._signals.__exit__(kind, error, traceback)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], files: Collection[int] = ()
    ) -> None:
        """Start one more."""
        self._running[name] = start(command, environment, files)

    def watch(self, name: str, poll: Callable[[], int | None]) -> None:
        """End all when this one ends, too, which somebody else starts and stops; ``poll`` is as ``Popen.poll``."""
        self._watched[name] = poll

    def run(self) -> int:
        """Wait until we are asked to stop, or one of them ends; stop the others and return the exit status."""
        status = self._wait()
        self._stop()
        return status

    def _wait(self) -> int:
        while True:
            if self._was_asked_to_stop(_SLEEP_SECONDS):
                self._say("Stopping; once more to stop at once.")
                return 0
            polls = {name: process.poll for name, process in self._running.items()} | self._watched
            for name, poll in polls.items():
                if (status := poll()) is not None:
                    self._say(f"The {name} ended by itself ({describe(status)}), so everything stops.")
                    return status if status > 0 else 128 - status if status < 0 else 1

    def _was_asked_to_stop(self, seconds: float) -> bool:
        return any(number is not signal.SIGCHLD for number in self._signals.wait(seconds))

    def _stop(self) -> None:
        """Stop them one after the other, the last that was started first."""
        while self._running:
            name, process = self._running.popitem()
            if process.poll() is None:
                process.terminate()
            if not self._has_ended(process):
                self._say(f"The {name} was killed.")
                process.kill()
                process.wait()

    def _has_ended(self, process: Process) -> bool:
        """Wait for the end of a program; give up when the time is over, or when asked to stop once more."""
        deadline = time.monotonic() + self._stop_seconds
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0 or self._was_asked_to_stop(min(left, _SLEEP_SECONDS)):
                return False
        return True
