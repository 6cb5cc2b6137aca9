"""Where this process listens; elsewhere than on this machine only once there is a token."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline import DatabaseUnavailable, SchemaOutdated
from pipeline.commands.tokens import check_served
from pipeline.logger import get_logger
from pipeline.runtime import ask
from pipeline.settings import is_loopback

log = get_logger(__name__)


def check() -> None:
    """Return if this process may serve where it listens. It asks the sockets themselves, whatever server opened them.

    While the database is away nobody knows, and nobody gets in either: each request that needs a token is refused.

    Raises:
        ConfigurationError: Others can reach it, and there is no token.
    """
    addresses = ", ".join(sorted(set(_foreign_addresses())))
    if not addresses:
        return
    try:
        ask(check_served, addresses)
    except (DatabaseUnavailable, SchemaOutdated) as error:
        log.warning("web.unchecked", addresses=addresses, error=str(error))


def _foreign_addresses() -> Iterator[str]:
    """Name the addresses of this process's listening sockets that others can reach."""
    directory = Path("/dev/fd")
    for entry in directory.iterdir() if directory.exists() else ():
        with suppress(OSError):  # the one that lists them is closed by now
            if stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                yield from _foreign_address(int(entry.name))


def _foreign_address(file: int) -> Iterator[str]:
    found = socket.socket(fileno=file)
    try:
        is_listening = found.family in {socket.AF_INET, socket.AF_INET6} and found.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
        if is_listening and not is_loopback(found.getsockname()[0]):
            yield "{}:{}".format(*found.getsockname())
    finally:
        found.detach()  # it is somebody else's
