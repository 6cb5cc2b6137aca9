"""What holds the horizon back, so that no dead row can be removed: one way each."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from pipeline.db import binaries


@dataclass
class Pin:
    """What is to be said of a pin in the report, and how to let go on purpose."""

    how: str
    release: Callable[[], None]
    #: The id of the message that is sent by letting go.
    sends: str | None = None


@contextmanager
def snapshot(url: str) -> Iterator[Pin]:
    """An idle transaction that has looked once and keeps its snapshot."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM pipeline.queue")
        yield Pin("idle in transaction, REPEATABLE READ", connection.rollback)


@contextmanager
def enqueue(url: str) -> Iterator[Pin]:
    """A transaction that has sent a task, and does not come to its end."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pipeline.enqueue('noop', '[0, \"late\"]', queue => 'bench')::text")
        (message_id,) = cursor.fetchone() or ("",)
        yield Pin("idle in transaction, one task sent", connection.commit, message_id)


@contextmanager
def dump(url: str) -> Iterator[Pin]:
    """A pg_dump whose output nobody reads; where there is none, a session that holds the same locks and snapshot."""
    program = _pg_dump()
    if program is None:
        with _locks(url) as pin:
            yield pin
        return
    # In a session of its own, so that Ctrl-C reaches only the one who measures.
    process = subprocess.Popen([program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _read_to_data(process)
        yield Pin("pg_dump, whose output nobody reads on", lambda: _finish(process))
    finally:
        process.kill()
        process.communicate()


def _pg_dump() -> str | None:
    path = Path(binaries.choose().program("pg_dump"))
    return str(path) if path.exists() else None


def _read_to_data(process: subprocess.Popen[bytes]) -> None:
    """Read as far as the first table's rows: by then it has its snapshot and its locks."""
    assert process.stdout is not None
    if not any(line.startswith(b"COPY ") for line in process.stdout):
        raise RuntimeError(f"pg_dump ended: {process.communicate()[1].decode(errors='replace')}")


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Read on, so that it ends as a dump ends."""
    if process.poll() is not None:
        raise RuntimeError("pg_dump came to its end too early: there was too little to dump")
    reader = threading.Thread(target=process.communicate, daemon=True)
    reader.start()
    reader.join(300)


@contextmanager
def _locks(url: str) -> Iterator[Pin]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor, suppress(psycopg2.Error):
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'pipeline'")
        cursor.execute(f"LOCK TABLE {', '.join(name for (name,) in cursor.fetchall())} IN ACCESS SHARE MODE")
        yield Pin("ACCESS SHARE locks on all tables in a REPEATABLE READ transaction (no pg_dump)", connection.rollback)


PINS: dict[str, Callable[[str], AbstractContextManager[Pin]]] = {
    "snapshot": snapshot,
    "enqueue": enqueue,
    "dump": dump,
}
