"""Start child processes that cannot outlive us."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from pipeline.lifeline import bound

Process = subprocess.Popen[bytes]


def start(command: Sequence[str], environment: Mapping[str, str], files: Collection[int] = ()) -> Process:
    """Start a child from the main thread, in a session of its own: Ctrl-C in the terminal reaches only us."""
    return subprocess.Popen(
        bound(*command), env=environment, pass_fds=tuple(files), stdin=subprocess.DEVNULL, start_new_session=True
    )


def describe(status: int) -> str:
    """Say in words how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
