"""A counter and a list of times in shared memory, written by tasks and read by the one who measures."""

import mmap
import struct
import threading
import time
from pathlib import Path

_HEAD = struct.Struct("Qdd")
_SAMPLES = 20_000


class Counter:
    """How many tasks a process has run, when the first and the last of them did, and latencies."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._mutex = threading.Lock()  # or a thread that is slow would write an older number over a newer one
        self._count = 0

    @classmethod
    def create(cls, path: Path) -> "Counter":
        path.write_bytes(bytes(_HEAD.size + 8 * _SAMPLES))
        return cls(path)

    def add(self) -> None:
        """Count one task."""
        with self._mutex:
            now = time.monotonic()
            self._count += 1
            if self._count == 1:
                struct.pack_into("d", self._memory, 8, now)
            struct.pack_into("d", self._memory, 16, now)
            struct.pack_into("Q", self._memory, 0, self._count)

    def sample(self, seconds: float) -> None:
        """Count one task and keep how long it took to begin."""
        with self._mutex:
            struct.pack_into("d", self._memory, _HEAD.size + 8 * self._count, seconds)
            self._count += 1
            struct.pack_into("Q", self._memory, 0, self._count)

    def read(self) -> tuple[int, float, float]:
        """Return the count and the times of the first and the last task."""
        return _HEAD.unpack_from(self._memory, 0)

    def samples(self) -> list[float]:
        """Return the latencies so far."""
        count = self.read()[0]
        return list(struct.unpack_from(f"{count}d", self._memory, _HEAD.size))
