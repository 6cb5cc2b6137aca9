"""Processes that others left behind. In a container they become children of process 1, which has to reap them."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


class Orphans:
    """Reaps what ended and was not started by us. Nobody but process 1 is given such children."""

    def __init__(self) -> None:
        self._is_first = os.getpid() == 1
        #: What was started before us in this process, such as an embedded server: its owner waits for it.
        self._others = set(_children())

    def reap(self, own: Collection[int]) -> None:
        """Reap those that have ended; never one of ``own``, whose exit status somebody wants to know."""
        if not self._is_first:
            return
        for pid in set(_children()) - self._others - set(own):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found
