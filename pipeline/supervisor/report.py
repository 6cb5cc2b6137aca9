"""What a worker process tells its master, as lines through a pipe: that it works, and that it leaves."""

from __future__ import annotations

import os
from contextlib import suppress

_WORKING = b"working"
_LEAVING = b"leaving"
_DRAINED = b"drained"


class Reporter:
    """The end of the pipe in the worker process."""

    def __init__(self, file: int) -> None:
        os.set_inheritable(file, False)  # programs that a task starts must not hold it
        self._file = file

    def working(self) -> None:
        """Tell that this process has what it needs, and works."""
        self._tell(_WORKING)

    def leaving(self, *, is_drained: bool = False) -> None:
        """Tell that this process claims nothing more and ends when its tasks are done; drained, without a successor."""
        self._tell(_DRAINED if is_drained else _LEAVING)

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):  # no master is left to hear it
            os.write(self._file, word + b"\n")


class Receiver:
    """The end of the pipe in the master."""

    def __init__(self) -> None:
        self.file, self._other = os.pipe()
        os.set_blocking(self.file, False)
        self.is_open = True
        self.is_working = False
        self.is_leaving = False
        #: Nobody shall take its place.
        self.is_drained = False
        self._rest = b""

    @property
    def other_end(self) -> int:
        """What the process shall write to."""
        return self._other

    def hand_over(self) -> None:
        """Close our copy of the other end, once the process has it."""
        os.close(self._other)

    def read(self) -> None:
        """Take in what has arrived; never waits."""
        while self.is_open and (data := self._read_some()):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self.is_working = self.is_working or line == _WORKING
                self.is_drained = self.is_drained or line == _DRAINED
                self.is_leaving = self.is_leaving or line in {_LEAVING, _DRAINED}

    def _read_some(self) -> bytes:
        try:
            data = os.read(self.file, 4096)
        except BlockingIOError:
            return b""
        if not data:
            self.close()
        return data

    def close(self) -> None:
        """Hear nothing more."""
        if self.is_open:
            self.is_open = False
            os.close(self.file)
