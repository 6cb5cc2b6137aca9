"""When each task ended and how long it had waited, in shared memory: written by tasks, read by the one who measures."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from pathlib import Path

_RECORD = struct.Struct("dd")
_CAPACITY = 1_000_000

#: What a task without a time of sending has waited.
NOT_TIMED = -1.0


class Tally:
    """The records of this process, in a file named by its id.

    Made at the first task, so that a process that forks workers has none and each fork its own. A thread takes a
    number, which is atomic, and writes its own record: no lock, about 0.5 µs.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def add(self) -> None:
        """Count one task."""
        self._write(NOT_TIMED)

    def began(self, sent_at: float) -> None:
        """Count one task, and how long it took to begin."""
        self._write(time.monotonic() - sent_at)

    def _write(self, waited: float) -> None:
        memory = self._memory or self._open()
        _RECORD.pack_into(memory, next(self._numbers) * _RECORD.size, time.monotonic(), waited)

    def _open(self) -> mmap.mmap:
        path = Path(os.environ["BENCH_TALLY"]) / str(os.getpid())
        with path.open("a+b") as file:  # two threads may come here at once: the same file, the same records
            file.truncate(_CAPACITY * _RECORD.size)
            self._memory = mmap.mmap(file.fileno(), 0)
        return self._memory

    def _forget(self) -> None:
        self._memory: mmap.mmap | None = None
        self._numbers = itertools.count()


#: That of this process.
TALLY = Tally()


class _Reader:
    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.count = 0

    def advance(self) -> int:
        """Count the tasks that ended, up to the first whose record is not written yet."""
        while _RECORD.unpack_from(self._memory, self.count * _RECORD.size)[0]:
            self.count += 1
        return self.count

    def records(self) -> list[tuple[float, float]]:
        return list(_RECORD.iter_unpack(self._memory[: self.advance() * _RECORD.size]))


class Tallies:
    """All tallies in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._readers: dict[str, _Reader] = {}

    def done(self) -> int:
        """How many tasks have ended."""
        for path in self._directory.iterdir():
            if path.name not in self._readers and path.stat().st_size:
                self._readers[path.name] = _Reader(path)
        return sum(reader.advance() for reader in self._readers.values())

    def ends(self) -> list[list[float]]:
        """When the tasks ended (``time.monotonic()``), by process."""
        self.done()
        return [sorted(end for end, _ in reader.records()) for reader in self._readers.values()]

    def waits(self, since: float) -> list[float]:
        """How many seconds the timed tasks waited that ended after a moment."""
        self.done()
        found = [record for reader in self._readers.values() for record in reader.records()]
        return [waited for end, waited in found if end >= since and waited != NOT_TIMED]
