"""The servers of a run: PostgreSQL, PgBouncer and Redis of its own, durable as shipped, on free loopback ports."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2

from pipeline.db import embedded
from pipeline.db.dsn import Dsn
from pipeline.lifeline import bound
from tests.fixtures import pgbouncer
from tests.fixtures.pgbouncer import Pooler
from tests.fixtures.wait import eventually

NO_REDIS = "no redis-server here; as root ./dev bench peers installs it from apt"
NO_POOLER = "no pgbouncer here; as root ./dev bench peers installs it from apt"


class Postgres:
    """A durable PostgreSQL server, with fresh databases."""

    def __init__(self, url: str, version: str) -> None:
        self.version = version
        self.url = url

    def fresh(self, name: str, template: str = "template1") -> str:
        """Make a database anew, as a copy of another, and return its address."""
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            cursor.execute("CHECKPOINT")  # what was before is not written out at the expense of what comes
        return Dsn.parse(self.url).with_database(name).libpq


@contextmanager
def postgres(directory: Path) -> Iterator[Postgres]:
    """Run a PostgreSQL server for a block."""
    server = embedded.start(directory / "postgres", durable=True)
    try:
        yield Postgres(server.url, server.version)
    finally:
        server.stop()


@contextmanager
def pooler(database: Postgres) -> Iterator[Pooler | None]:
    """Run PgBouncer in transaction mode for a block, in front of the server; None if there is no binary."""
    if pgbouncer.program() is None:
        yield None
        return
    with pgbouncer.pgbouncer(database.url) as running:
        yield running


class Redis:
    """A Redis server as it comes: snapshots now and then, no append-only file."""

    def __init__(self, port: int, version: str) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.version = version
        self._port = port

    def flush(self) -> None:
        """Forget everything."""
        assert self.ask("FLUSHALL").startswith("+OK")

    def ask(self, command: str) -> str:
        """Send one command without arguments and return the beginning of the answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(100).decode(errors="replace")

    def answers(self) -> bool:
        """Tell whether it is up."""
        try:
            return self.ask("PING").startswith("+PONG")
        except OSError:
            return False


@contextmanager
def redis(directory: Path) -> Iterator[Redis | None]:
    """Run a Redis server for a block; None if there is no binary."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    home = directory / "redis"
    home.mkdir()
    port = _free_port()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            bound(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), end_by="TERM"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        server = Redis(port, _version(program))
        eventually(lambda: server.answers() or process.poll() is not None, within=20)
        if process.poll() is not None:
            raise RuntimeError(f"redis-server did not start:\n{(home / 'log').read_text(errors='replace')[-2000:]}")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _version(program: str) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word.removeprefix("v=") for word in told.split() if word.startswith("v=")), "unknown")
