"""What a worker process shall do, as a value and as a command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass

#: The exit status of a worker process that can never work: a module or a queue is wrong. (EX_CONFIG of sysexits.h)
EXIT_UNUSABLE = 78


@dataclass(frozen=True, slots=True)
class Plan:
    """Which actors, for which queues, in how many threads."""

    modules: tuple[str, ...]
    #: Empty: all queues that the modules declare.
    queues: tuple[str, ...]
    threads: int

    def command(self, report: int) -> list[str]:
        """Give the command line of a process that reports to that file descriptor."""
        program = [sys.executable, "-m", "pipeline.supervisor.child", "--report", str(report)]
        queues = ["--queues", ",".join(self.queues)] if self.queues else []
        return [*program, "--threads", str(self.threads), *queues, "--", *self.modules]


def split_queues(text: str | None) -> tuple[str, ...]:
    """Read ``a,b``."""
    return tuple(name for name in (part.strip() for part in (text or "").split(",")) if name)
