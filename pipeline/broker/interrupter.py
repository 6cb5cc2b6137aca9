"""Exceptions raised in a running task from outside: time limit, shutdown, cancel.

All of them go through one interrupter, since CPython delivers such an exception at some later bytecode of the thread:
unless somebody makes sure, in the next task or in the middle of the bookkeeping. The rules:

- An interruption names the task; it is raised under the interrupter's mutex and only while that task runs.
- When the task ends, its thread takes the mutex, strikes itself out and swallows an exception that is still pending.
- One that arrives while the thread is about to do so is swallowed: the task has ended by itself.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING

from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded

from pipeline.logger import get_logger

if TYPE_CHECKING:
    from pipeline.context import CurrentTask

#: Turns of a loop, each of which is a point where a pending exception arrives.
_TURNS = 100

log = get_logger(__name__)


class Interrupter:
    """Which task each thread runs, and the only way to raise an exception there."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._running: dict[int, CurrentTask] = {}
        self._deadlines: dict[CurrentTask, float] = {}
        #: Threads in which something was raised that may not have arrived.
        self._raised: set[int] = set()
        #: Tasks that were told that their process ends.
        self._told: set[CurrentTask] = set()

    def begin(self, task: CurrentTask) -> None:
        """Let this thread's task be interrupted from now on."""
        self._running[threading.get_ident()] = task

    def end(self) -> None:
        """Let nothing be raised in this thread any more, and swallow what is on its way.

        A pending exception is let arrive, not cleared: on CPython 3.11 clearing one leaves the interpreter's signal
        set, and a traced thread (coverage, a debugger) then spins for ever.
        """
        ident = threading.get_ident()
        is_out = False
        while not is_out:
            try:
                with self._mutex:
                    task = self._running.pop(ident, None)
                    self._deadlines.pop(task, None)  # type: ignore[arg-type]
                if ident in self._raised:
                    for _ in range(_TURNS):
                        pass
                    self._raised.discard(ident)
                is_out = True
            except Interrupt:
                continue

    def end_if_running(self) -> None:
        """End the task of this thread if its end went unnoticed.

        That happens when it was interrupted while an exception of its actor was being handled.
        """
        if threading.get_ident() in self._running:
            self.end()

    def interrupt(self, task: CurrentTask, error: type[Interrupt]) -> bool:
        """Raise ``error`` in the thread that runs ``task``; False if it has ended."""
        with self._mutex:
            for ident, running in list(self._running.items()):  # begin() takes no mutex
                if running is task:
                    self._raised.add(ident)
                    _raise_in(ident, error)
                    return True
        return False

    def shut_down(self, task: CurrentTask) -> bool:
        """Raise Shutdown in a task, once: it may be cleaning up already. False if it has ended, or was told before."""
        if task in self._told or not self.interrupt(task, Shutdown):
            return False
        self._told.add(task)
        return True

    def limit(self, task: CurrentTask, seconds: float) -> None:
        """Interrupt the task with TimeLimitExceeded if it runs longer than this."""
        self._deadlines[task] = time.monotonic() + seconds

    def check_limits(self) -> None:
        """Interrupt the tasks whose time is over; each once."""
        now = time.monotonic()
        with self._mutex:
            over = [
                task for task, deadline in list(self._deadlines.items()) if now >= deadline
            ]  # limit() takes no mutex
            for task in over:
                del self._deadlines[task]
        for task in over:
            if self.interrupt(task, TimeLimitExceeded):
                log.warning("task.time_limit_exceeded", task_id=task.task_id, run=task.run)

    def running(self) -> list[CurrentTask]:
        """List the tasks that run now."""
        with self._mutex:
            return list(self._running.values())


def _raise_in(ident: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))
