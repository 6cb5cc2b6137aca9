"""Which worker a process is and what each of its threads runs, in memory that its master reads.

The master sees it whatever the process does, also while one of its tasks holds the GIL or hangs in C code, when no
thread of the process can say anything. A run costs two writes and no system call.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from tempfile import TemporaryFile
from typing import NamedTuple, Self

#: Task id (0: free), run, when it began and when it must have ended (0: never), both on the machine's monotonic clock.
_SLOT = struct.Struct("qqdd")
_ID = struct.Struct("q")
#: In front of the slots: the worker that the process is, and how many processes in its place died young, one after the
#: other.
_HEADER = struct.Struct("qq")


class Entry(NamedTuple):
    """One run, as the master sees it."""

    id: int
    run: int
    started_at: float
    deadline: float


class Board:
    """Slots for runs. Made by the master, one for each process, and attached to by that process."""

    def __init__(self, file: int) -> None:
        self.file = file
        size = os.fstat(file).st_size
        self._slots = (size - _HEADER.size) // _SLOT.size
        self._memory = mmap.mmap(file, size)
        self._free = deque(range(self._slots))

    @classmethod
    def create(cls, threads: int, crashes: int = 0) -> Self:
        """Make a board for a process of so many threads; some more slots are for threads that replace dead ones."""
        file = _nameless_file()
        os.truncate(file, _offset(2 * threads + 8))
        board = cls(file)
        _HEADER.pack_into(board._memory, 0, 0, crashes)
        return board

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.file)

    @property
    def worker_id(self) -> int:
        """The worker that the process is; 0 if it is none: not yet, or not any more."""
        worker_id: int = _HEADER.unpack_from(self._memory)[0]
        return worker_id

    @worker_id.setter
    def worker_id(self, worker_id: int) -> None:
        _ID.pack_into(self._memory, 0, worker_id)

    @property
    def crashes(self) -> int:
        """How many processes in the place of this one died young, one after the other."""
        crashes: int = _HEADER.unpack_from(self._memory)[1]
        return crashes

    # --- in the process -----------------------------------------------------------------------------------------------

    def enter(self, id: int, run: int, started_at: float, deadline: float) -> int | None:
        """Note a run; return its slot, None if all are taken: then nobody can end that run."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return None
        # The id last: a master that looks meanwhile sees a free slot.
        _SLOT.pack_into(self._memory, _offset(slot), 0, run, started_at, deadline)
        _ID.pack_into(self._memory, _offset(slot), id)
        return slot

    def leave(self, slot: int) -> None:
        """Note that the run in this slot has ended."""
        _ID.pack_into(self._memory, _offset(slot), 0)
        self._free.append(slot)

    # --- in the master ------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Read what runs."""
        read = (Entry(*_SLOT.unpack_from(self._memory, _offset(slot))) for slot in range(self._slots))
        return [entry for entry in read if entry.id]

    def overdue(self, now: float) -> list[Entry]:
        """Read which runs should have ended."""
        return [entry for entry in self.entries() if 0 < entry.deadline <= now]


def _offset(slot: int) -> int:
    return _HEADER.size + slot * _SLOT.size


def _nameless_file() -> int:
    """Open a file that is gone with the last process that has it: in memory, where nothing need be writable."""
    try:
        return os.memfd_create("pipeline-board")
    except (AttributeError, OSError):  # not on Linux, or forbidden
        with TemporaryFile() as file:
            return os.dup(file.fileno())
