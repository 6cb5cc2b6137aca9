"""Signals as something to wait for, together with files, instead of code that runs in between."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection
from types import FrameType
from typing import Any, Self

#: What asks a process to stop.
STOP = (signal.SIGTERM, signal.SIGINT)
STOP_SET = frozenset(STOP)
#: What asks for something else: fresh processes, and what runs where.
REQUESTS = (signal.SIGHUP, signal.SIGUSR1)


class Signals:
    """Some signals of this process, kept until :meth:`wait` returns them. For the main thread."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _ignore) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float, files: Collection[int] = ()) -> list[signal.Signals]:
        """Wait for a signal, for one of the files to become readable, or until the time is over."""
        readable, _, _ = select.select([self._read, *files], [], [], max(seconds, 0))
        if self._read not in readable:
            return []
        arrived = map(signal.Signals, os.read(self._read, 4096))
        return [number for number in arrived if number in self._numbers]


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the interpreter has written the number into the pipe."""
