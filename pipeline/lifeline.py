"""Bind the life of a child process to ours, also when we are killed without a word."""

import os
import shutil

#: The shell looks whether we died before the kernel was told to watch us.
_UNLESS_ORPHANED = '[ "$PPID" = "$1" ] || exit; shift; exec "$@"'


def bound(*command: str, end_by: str = "KILL") -> tuple[str, ...]:
    """Give the command line whose process gets a signal when we end, however that happens.

    The kernel watches the *thread* that starts the process, so start it from one that lives as long as we do. Linux
    only; elsewhere the command is returned as it is.
    """
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return command
    return (setpriv, "--pdeathsig", end_by, "/bin/sh", "-c", _UNLESS_ORPHANED, "sh", str(os.getpid()), *command)
