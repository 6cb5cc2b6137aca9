"""What a worker process shall do, as a value and as a command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass

#: The exit status of a worker process that can never work: a module or a queue is wrong. (EX_CONFIG of sysexits.h)
EXIT_UNUSABLE = 78


@dataclass(frozen=True, slots=True)
class Plan:
    """Which actors, for which queues, in how many threads, and after how much work a process is replaced."""

    modules: tuple[str, ...]
    #: Empty: all queues that the modules declare.
    queues: tuple[str, ...]
    threads: int
    #: Tasks after which a process is replaced; 0: never.
    max_tasks: int = 0
    #: Resident memory after which a process is replaced; 0: never.
    max_memory_mb: int = 0

    def command(self, report: int, board: int) -> list[str]:
        """Give the command line of a process that has these file descriptors: where it reports, and its board."""
        files = ["--report", str(report), "--board", str(board)]
        program = [sys.executable, "-m", "pipeline.supervisor.child", *files]
        queues = ["--queues", ",".join(self.queues)] if self.queues else []
        limits = ["--max-tasks", str(self.max_tasks), "--max-memory-mb", str(self.max_memory_mb)]
        return [*program, "--threads", str(self.threads), *limits, *queues, "--", *self.modules]


def split_queues(text: str | None) -> tuple[str, ...]:
    """Read ``a,b``."""
    return tuple(name for name in (part.strip() for part in (text or "").split(",")) if name)
