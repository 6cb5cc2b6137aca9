"""Which worker a process is and what each of its threads runs, in memory that its master reads.

The master sees it whatever the process does, also while one of its tasks holds the GIL or hangs in C code, when no
thread of the process can say anything. A run costs two writes and no system call.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from contextlib import suppress
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Self

from pipeline.broker.running import PlacedRun

if TYPE_CHECKING:
    from threading import Thread

#: Task id (0: free), run, when it began and when it must have ended (0: never), both on the machine's monotonic clock.
_SLOT = struct.Struct("qqdd")
_ID = struct.Struct("q")
#: In front of the slots: the worker that the process is, and how many processes in its place died young, one after the
#: other.
_HEADER = struct.Struct("qq")


class Board:
    """Slots for runs. Made by the master, one for each process, and attached to by that process."""

    def __init__(self, file: int) -> None:
        self.file = file
        size = os.fstat(file).st_size
        self._slots = (size - _HEADER.size) // _SLOT.size
        self._memory = mmap.mmap(file, size)
        self._free = deque(range(self._slots))
        #: Each thread keeps its slot, by which people tell it from the others.
        self._slot_of: dict[Thread, int] = {}

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

    def enter(self, thread: Thread, id: int, run: int, started_at: float, deadline: float) -> int | None:
        """Note a thread's run; return its slot, None if all are taken: then nobody can end that run."""
        slot = self._slot_of.get(thread)
        if slot is None and (slot := self._take_slot(thread)) is None:
            return None
        # The id last: a master that looks meanwhile sees a free slot.
        _SLOT.pack_into(self._memory, _offset(slot), 0, run, started_at, deadline)
        _ID.pack_into(self._memory, _offset(slot), id)
        return slot

    def leave(self, slot: int) -> None:
        """Note that the run in this slot has ended."""
        _ID.pack_into(self._memory, _offset(slot), 0)

    def _take_slot(self, thread: Thread) -> int | None:
        """Give a thread a slot that is free, those first that belonged to threads that are gone."""
        for other, slot in list(self._slot_of.items()):
            if not other.is_alive() and not _ID.unpack_from(self._memory, _offset(slot))[0]:
                with suppress(KeyError):  # another thread that begins did the same
                    self._free.appendleft(self._slot_of.pop(other))
        try:
            slot = self._slot_of[thread] = self._free.popleft()
        except IndexError:
            return None
        return slot

    # --- in the master ------------------------------------------------------------------------------------------------

    def entries(self) -> list[PlacedRun]:
        """Read what runs."""
        entries = []
        for slot in range(self._slots):
            id, run, started_at, deadline = _SLOT.unpack_from(self._memory, _offset(slot))
            if id:
                entries.append(PlacedRun(id, run, started_at, deadline, slot + 1))
        return entries

    def overdue(self, now: float) -> list[PlacedRun]:
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
