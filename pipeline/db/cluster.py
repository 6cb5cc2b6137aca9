"""One PostgreSQL cluster of our own: its directory, how it is made, and its server as our child process."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.db.binaries import Binaries
from pipeline.db.connection import connect
from pipeline.db.unprivileged import Identity
from pipeline.errors import DatabaseUnavailable, EmbeddedServerError
from pipeline.lifeline import bound

_SUPERUSER = "postgres"
_DATABASE = "pipeline"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_PORT_ATTEMPTS = 5

#: Every PostgreSQL knows the second; umlauts have an upper case only in the first.
_LOCALES = ("C.UTF-8", "C")
#: The caller's shell (PGDATA, PGOPTIONS, LC_ALL, …) decides nothing.
_ENVIRONMENT = {"PATH": os.defpath}
_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
_THROW_AWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Record:
    """What ``server.json`` holds: the proof that a cluster is ours, and the way in."""

    password: str = field(repr=False)
    port: int = 0

    def url(self, database: str = _DATABASE) -> str:
        """Give the address of one of the server's databases."""
        return f"postgresql://{_SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"


@dataclass(frozen=True)
class Home:
    """The directory of one embedded server, and the names in it."""

    path: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory."""
        return self.path / "cluster"

    @property
    def unfinished(self) -> Path:
        """Where ``initdb`` works, so that a cluster under its name is always complete."""
        return self.path / "cluster.unfinished"

    @property
    def record(self) -> Path:
        """Port and password."""
        return self.path / "server.json"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.path / "server.log"

    @property
    def lock(self) -> Path:
        """Held while a server is being made or started."""
        return self.path / "server.lock"

    @property
    def pwfile(self) -> Path:
        """How ``initdb`` learns the password, which must not stand in a command line."""
        return self.path / "initdb.password"

    def major(self) -> int | None:
        """Give the version the cluster is bound to, None if there is no cluster yet."""
        if not self.cluster.exists():
            return None
        try:
            return int((self.cluster / "PG_VERSION").read_text())
        except (OSError, ValueError) as error:
            message = f"{self.cluster} is damaged: {error}"
            raise EmbeddedServerError(message) from error

    def read_record(self) -> Record:
        """Read port and password.

        Raises:
            EmbeddedServerError: They cannot be read; without the password the cluster is lost to us, but not touched.
        """
        try:
            return Record(**json.loads(self.record.read_text()))
        except (OSError, ValueError, TypeError) as error:
            message = f"{self.record} cannot be read, so {self.cluster} was left alone: {error}"
            raise EmbeddedServerError(message) from error

    def write_record(self, record: Record) -> None:
        """Replace the record in one step; nobody else may ever read it."""
        aside = self.path / "server.json.new"
        _write_private(aside, json.dumps(asdict(record)))
        aside.replace(self.record)

    def postmaster_pid(self) -> int | None:
        """Give the process that serves the cluster now; a file left by a crash does not count."""
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().partition("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if self.is_served_by(pid) else None

    def is_served_by(self, pid: int) -> bool:
        """Tell whether that process is this cluster's postmaster, and not a later one that got the same number."""
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        proc = Path(f"/proc/{pid}")
        if not proc.exists():
            return True  # no /proc on this system: kill() is all there is
        try:
            return (proc / "cwd").resolve(strict=True) == self.cluster.resolve()
        except OSError:
            return False

    def log_tail(self) -> str:
        """Give the last lines of the server's log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-8:])

    def remove(self) -> None:
        """Delete everything of ours, and the directory if that leaves it empty."""
        shutil.rmtree(self.cluster, ignore_errors=True)
        for file in (self.record, self.log, self.lock):
            file.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def make(home: Home, binaries: Binaries, who: Identity, *, durable: bool) -> None:
    """Make the cluster. After a crash at any point there is either none or a complete one with its record."""
    record = Record(password=secrets.token_urlsafe(24))
    _write_private(home.pwfile, record.password)
    who.own(home.pwfile, mode=0o600)
    try:
        _initdb(home, binaries, who, durable=durable)
    finally:
        home.pwfile.unlink()
    home.write_record(record)
    home.unfinished.rename(home.cluster)


def _initdb(home: Home, binaries: Binaries, who: Identity, *, durable: bool) -> None:
    complaint = ""
    for locale in _LOCALES:
        shutil.rmtree(home.unfinished, ignore_errors=True)
        home.unfinished.mkdir()
        who.own(home.unfinished, mode=0o700)
        command = who.command(*_initdb_command(home, binaries, locale, durable=durable))
        done = subprocess.run(command, **_process_options(who), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        complaint = done.stderr.strip()
    shutil.rmtree(home.unfinished, ignore_errors=True)
    message = f"initdb of PostgreSQL {binaries.version} failed in {home.path}:\n{complaint}"
    raise EmbeddedServerError(message)


def _initdb_command(home: Home, binaries: Binaries, locale: str, *, durable: bool) -> list[str]:
    return [
        binaries.program("initdb"),
        f"--pgdata={home.unfinished}",
        f"--username={_SUPERUSER}",
        f"--pwfile={home.pwfile}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        f"--locale={locale}",
        *([] if durable else ["--no-sync"]),
    ]


def launch(
    home: Home, binaries: Binaries, who: Identity, *, durable: bool, options: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Record]:
    """Start the server on a free port, with these settings of PostgreSQL's on top of ours, and return when it answers.

    The port of last time is taken again if it is free, so that addresses people copied stay true.

    Raises:
        EmbeddedServerError: It did not come up; the message holds the end of its log.
    """
    record = home.read_record()
    for _ in range(_PORT_ATTEMPTS):
        record = replace(record, port=_free_port(record.port))
        home.write_record(record)
        process = _spawn(home, binaries, who, _settings(record, options, durable=durable))
        if _comes_up(process, record):
            return process, record
        end(process, signal.SIGQUIT)
        if "Address already in use" not in home.log_tail():
            break
    message = f"PostgreSQL {binaries.version} did not start in {home.path}:\n{home.log_tail()}"
    raise EmbeddedServerError(message)


def _free_port(wanted: int) -> int:
    """Give a free port, that one if possible. Somebody may still be faster, so the caller tries again."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    message = "No port is free on 127.0.0.1"
    raise EmbeddedServerError(message)


def _settings(record: Record, options: Mapping[str, str], *, durable: bool) -> dict[str, str]:
    return {**_SETTINGS, "port": str(record.port), **({} if durable else _THROW_AWAY_SETTINGS), **options}


def _spawn(home: Home, binaries: Binaries, who: Identity, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``postgres`` in a session of its own, so that Ctrl-C in our terminal does not reach it."""
    options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    server = (binaries.program("postgres"), "-D", str(home.cluster), *options)
    # SIGINT is PostgreSQL's fast shutdown.
    command = who.command(*bound(*server, end_by="INT"))
    with home.log.open("ab") as log:
        return subprocess.Popen(
            command, **_process_options(who), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _process_options(who: Identity) -> dict[str, Any]:
    """Start at the root directory, since that user may not be able to enter ours."""
    options: dict[str, Any] = {"env": _ENVIRONMENT, "cwd": "/"}
    if who.user:
        options |= {"user": who.user, "group": who.group, "extra_groups": []}
    return options


def _comes_up(process: subprocess.Popen[bytes], record: Record) -> bool:
    wait_until(lambda: process.poll() is not None or answers(record), _START_SECONDS)
    return process.poll() is None and answers(record)


def answers(record: Record) -> bool:
    """Tell whether a server lets us in there."""
    try:
        connect(record.url("postgres")).close()
    except DatabaseUnavailable:
        return False
    return True


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Stop our child, with more force each time it does not listen."""
    for force in (how, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(force)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look again and again until it is so or the time is over; tell which."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(_LOOK_SECONDS)
    return True


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
