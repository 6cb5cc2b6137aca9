"""Worker processes as users run them, by ``pipeline worker``; Ctrl-C in the terminal reaches only the one who measures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import gauge
from tests.benchmarks.counter import Counter
from tests.benchmarks.measure import ROOT
from tests.fixtures.database import query
from tests.fixtures.wait import eventually

_END_SECONDS = 60.0
#: What a process may take to be loaded, when all of a master are at once.
_START_SECONDS = 10.0
#: Processes of one master. Further masters follow when these work, so that not all are loaded at the same time.
_OF_ONE = 10

ALIVE = "SELECT count(*) FROM pipeline.worker WHERE state = 'a'"


@dataclass
class Masters:
    """Running ``pipeline worker``: one, or several for a fleet."""

    directory: Path
    masters: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)

    def counters(self) -> list[Counter]:
        """What the processes have counted."""
        return [Counter(path) for path in self.directory.iterdir()]

    def done(self) -> int:
        """How many tasks the processes have run."""
        return sum(counter.read()[0] for counter in self.counters())


@contextmanager
def masters(url: str, processes: int, threads: int, directory: Path) -> Iterator[Masters]:
    """Run so many worker processes for a block, from when all of them work until they have ended."""
    running, started = Masters(directory), list[subprocess.Popen[bytes]]()
    try:
        for first in range(0, processes, _OF_ONE):
            size = min(_OF_ONE, processes - first)
            started.append(_start(url, size, threads, directory))
            within = 30 + _START_SECONDS * size
            eventually(lambda: query(url, ALIVE) == first + size, within=within, every=0.2)  # noqa: B023 - called at once
            running.masters.append(started[-1].pid)
            running.workers += [child for child in gauge.children(started[-1].pid) if _is_worker(child)]
        yield running
    finally:
        _end(started)


def _start(url: str, processes: int, threads: int, counters: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "DATABASE_URL": url,
        "PYTHONPATH": str(ROOT),
        "PIPELINE_LOG_LEVEL": "WARNING",
        "BENCH_COUNTERS": str(counters),
    }
    command = [
        *(sys.executable, "-m", "pipeline.cli", "worker"),
        *("--processes", str(processes), "--threads", str(threads), "tests.benchmarks.ours"),
    ]
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)


def _is_worker(pid: int) -> bool:
    return b"pipeline.supervisor.child" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """End masters, together and at last by force; the kernel ends the processes that one leaves behind."""
    with ExitStack() as ended:
        for each in started:
            ended.callback(each.wait)
            ended.callback(each.kill)
            each.terminate()
        for each in started:
            with suppress(subprocess.TimeoutExpired):
                each.wait(_END_SECONDS)
