"""Children of a measurement: how they are started, asked and, whatever happens, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]

_TAIL_LINES = 12
_END_SECONDS = 15.0


class PeerFailed(Exception):
    """A system could not be measured; the message ends with the last lines of its log."""

    def __init__(self, what: str, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        super().__init__("\n".join([what, *lines[-_TAIL_LINES:]]))


class Child:
    """One process of ``child.py``, leader of a group of its own, so that Ctrl-C reaches only the one who measures.

    It ends when its input does: by ``end()``, and also if we are killed.
    """

    def __init__(self, python: Path, module: str, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._buffer = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "tests.benchmarks.peers.child", f"tests.benchmarks.peers.systems.{module}"],
                env=os.environ | environment | {"PYTHONPATH": str(ROOT), "PIPELINE_LOG_LEVEL": "WARNING"},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, *, within: float = 120.0, **arguments: Any) -> Any:
        """Let the child do something and return what it answers.

        Raises:
            PeerFailed: It died, raised, or did not answer in time.
        """
        self.tell(command, **arguments)
        return self.answer(command, within=within)

    def tell(self, command: str, **arguments: Any) -> None:
        """Let the child begin with something; ``answer`` waits for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"ended before {command}", self._log) from None

    def answer(self, command: str, *, within: float = 120.0) -> Any:
        """Wait for the answer to what was told."""
        answer = json.loads(self._line(command, time.monotonic() + within))
        if "error" in answer:
            raise PeerFailed(f"{command}: {answer['error'].rstrip()}", self._log)
        return answer["result"]

    def _line(self, command: str, deadline: float) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([output], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise PeerFailed(f"no answer to {command} in time", self._log)
            read = os.read(output, 1 << 16)
            if not read:
                raise PeerFailed(f"ended in {command}", self._log)
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def check(self) -> None:
        """Raise if the process is gone.

        Raises:
            PeerFailed: It is.
        """
        if self._process.poll() is not None:
            raise PeerFailed(f"ended with status {self._process.returncode}", self._log)

    def release(self) -> None:
        """Let it end, without waiting for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self) -> None:
        """Let it end, by force after a while, and whatever it started with it."""
        assert self._process.stdout is not None
        self.release()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # The group is named by the leader's id, which no other process gets while the group has a member.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
