"""An own PostgreSQL server for development, tests and small installations, without installing one.

``start(home)`` makes a cluster in ``home`` or finds the one it made before, starts it as our child and gives its
address::

    home/
      cluster/      PostgreSQL's data directory
      server.json   port and password: the proof that the cluster is ours
      server.log    what the server says
      server.lock   held while a server is being made or started

What can be relied on:

- A directory that we did not make is never touched, and a cluster is never made twice.
- A server that already runs in ``home`` is used and left running (``adopted``): it belongs to the process that started
  it, and ends with that one.
- The server ends with the process that started it, even after ``kill -9``. The kernel watches the *thread* that started
  it, so start it from the main thread. (Linux only; elsewhere the next start adopts what was left.)
- It listens on loopback only, over TCP, and wants the password from ``server.json``, which only its owner can read.
"""

import atexit
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2

from pipeline.db import binaries, cluster, unprivileged
from pipeline.db.cluster import Home, Record
from pipeline.db.connection import check_reachable, connect
from pipeline.errors import DatabaseUnavailable, EmbeddedServerError
from pipeline.settings import Settings

_ADOPT_SECONDS = 60.0


class EmbeddedServer:
    """A running server: one that we started, or one that we found running."""

    def __init__(
        self, home: Home, record: Record, pid: int, process: subprocess.Popen[bytes] | None, *, durable: bool
    ) -> None:
        self.url = record.url()
        self.data_dir = home.path
        self.pid = pid
        self.version = _ask(record, "SHOW server_version").partition(" ")[0]
        self._home = home
        self._process = process
        self._durable = durable
        self._owner = os.getpid()

    @property
    def adopted(self) -> bool:
        """Tell whether another process started it, and so ends it."""
        return self._process is None

    def poll(self) -> int | None:
        """Return None while the server runs, also one that another process started; else its exit status, or 0."""
        if self._process is not None:
            return self._process.poll()
        return None if self._home.is_served_by(self.pid) else 0

    def stop(self) -> None:
        """End the server if it is ours to end, and remove what was not meant to last. May be called again.

        A forked child that inherited this object does nothing: the server is its parent's.
        """
        process = self._process
        if process is None or process.returncode is not None or os.getpid() != self._owner:
            return
        cluster.end(process, signal.SIGINT if self._durable else signal.SIGQUIT)
        atexit.unregister(self.stop)
        if not self._durable:
            self._home.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.version} in {self.data_dir}, pid {self.pid}>"


def database_url(settings: Settings) -> str:
    """Give the address of the database to use: the operator's, or that of an embedded server this process keeps.

    An address that was given is final: if it does not answer, no server is started in its place.

    Raises:
        DatabaseUnavailable: The given address does not answer in time.
        EmbeddedServerError: No address was given, and no server can be started here.
    """
    if settings.database_url is None:
        return start(settings.data_dir / "postgres", pg_bin=settings.pg_bin).url
    check_reachable(settings.database_url, within=settings.connect_timeout_seconds)
    return settings.database_url


def running_url(settings: Settings) -> str:
    """Give the address of the database to use, without starting a server.

    Raises:
        DatabaseUnavailable: The given address does not answer in time.
        EmbeddedServerError: No address was given, and no embedded server runs.
    """
    if settings.database_url is not None:
        return database_url(settings)
    home = Home((settings.data_dir / "postgres").absolute())
    server = _adopt(home, durable=True)
    if server is None:
        message = (
            f"No database: DATABASE_URL is not set, and no embedded server runs in {home.path}. "
            "Set DATABASE_URL, or start everything with: pipeline up"
        )
        raise EmbeddedServerError(message)
    return server.url


def start(
    data_dir: Path, *, durable: bool = True, pg_bin: Path | None = None, options: Mapping[str, str] | None = None
) -> EmbeddedServer:
    """Make, start or adopt the server in ``data_dir``; return when it answers.

    With ``durable=False`` it is a throw-away server: quick, lost in a crash, removed by ``stop()``. A server that is
    not stopped ends with the process. ``options`` are settings of PostgreSQL's; one that is adopted keeps its own.

    Raises:
        EmbeddedServerError: There are no binaries, or the directory is not ours, or the server does not come up.
    """
    home = Home(data_dir.absolute())
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(home)
    with _locked(home):
        adopted = _adopt(home, durable=durable)
        return adopted or _make_and_start(home, durable=durable, pg_bin=pg_bin, options=options or {})


def _refuse_foreign(home: Home) -> None:
    """Refuse a directory with anything in it that we did not put there, before the first byte is written."""
    ours = {"cluster", "cluster.unfinished", "initdb.password", "server.json.new"}
    ours |= {home.record.name, home.log.name, home.lock.name}
    strangers = {path.name for path in home.path.iterdir()} - ours
    if strangers or (home.cluster.exists() and not home.record.exists()):
        message = f"{home.path} was not made by us and is left alone; choose another place with PIPELINE_DATA_DIR"
        raise EmbeddedServerError(message)


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """Let one process at a time make or start a server; the kernel frees the lock when its holder dies."""
    with home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _adopt(home: Home, *, durable: bool) -> EmbeddedServer | None:
    """Use the server that runs in this home, if one does.

    It is ours when our password opens it and it names our cluster as its data directory. One that is just starting or
    stopping is waited for.
    """
    pid = home.postmaster_pid()
    if pid is None:
        return None
    record = home.read_record()
    cluster.wait_until(lambda: not home.is_served_by(pid) or _is_ours(record, home), _ADOPT_SECONDS)
    if not home.is_served_by(pid):
        return None
    if not _is_ours(record, home):
        message = f"The process {pid} serves {home.cluster}, but does not let us in; see {home.log}"
        raise EmbeddedServerError(message)
    return EmbeddedServer(home, record, pid, None, durable=durable)


def _is_ours(record: Record, home: Home) -> bool:
    try:
        return Path(_ask(record, "SHOW data_directory")).resolve() == home.cluster.resolve()
    except (DatabaseUnavailable, psycopg2.Error):
        return False


def _make_and_start(home: Home, *, durable: bool, pg_bin: Path | None, options: Mapping[str, str]) -> EmbeddedServer:
    who = unprivileged.identity()
    chosen = unprivileged.reachable(binaries.choose(home.major(), pg_bin=pg_bin), who)
    if who.user:
        home.path.chmod(0o711)  # that user must get through to the cluster
    if not home.cluster.exists():
        cluster.make(home, chosen, who, durable=durable)
    process, record = cluster.launch(home, chosen, who, durable=durable, options=options)
    try:
        _create_database(record)
        server = EmbeddedServer(home, record, process.pid, process, durable=durable)
    except BaseException:
        cluster.end(process, signal.SIGQUIT)
        raise
    atexit.register(server.stop)
    return server


def _create_database(record: Record) -> None:
    """Make our database at the first start; a crash between ``initdb`` and here is made good at the next."""
    with closing(connect(record.url("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = 'pipeline'")
            if cursor.rowcount == 0:
                cursor.execute("CREATE DATABASE pipeline")


def _ask(record: Record, question: str) -> str:
    with closing(connect(record.url("postgres"))) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    return str(row[0]) if row else ""
