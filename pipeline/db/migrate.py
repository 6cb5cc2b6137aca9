"""Bring the schema up to the state of this code.

Two kinds of files make the schema:

- ``sql/migrations/NNNN_verb_object.sql`` run once, in order, and are never edited afterwards.
- ``sql/functions/*.sql`` and ``sql/views/*.sql`` are whole definitions, applied again when they change. All views of
  the schema are dropped and made anew together, so a migration may alter what they read. ``grant_roles`` then gives
  functions and views back to the roles that were let into the schema; nothing of ours is everybody's.

A migration may say in comment lines at its head:

- ``-- phase: expand`` (works with the code before it) or ``-- phase: contract`` (only once all old workers are gone);
- ``-- transaction: none`` for CREATE INDEX CONCURRENTLY. Such a file must be safe to run again, for a crash can come
  between its end and its being recorded. A line ``-- next statement`` parts its statements, which run one by one.

What can be relied on: everything between two such files, functions and views included, is one transaction and happens
whole or not at all; any number of runners may start together; no statement waits for a lock longer than a few seconds.
Run it on a direct connection: the lock that keeps runners apart belongs to a session.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 writes its classes in small letters
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from pipeline.db.connection import connect
from pipeline.db.sources import ROOT, SqlFile, read_folder, render
from pipeline.db.statements import Statements, load
from pipeline.errors import ConfigurationError, MigrationChanged, SchemaOutdated
from pipeline.logger import get_logger

_LOOK_SECONDS = 0.1

_NAME = re.compile(r"^migrations/(\d{4})_([a-z0-9_]+)\.sql$")
_HEADER = re.compile(r"^-- *(phase|transaction): *(\w+) *$")
_NEXT_STATEMENT = re.compile(r"^-- next statement\b.*$", re.MULTILINE)

logger = get_logger(__name__)


class Phase(StrEnum):
    """When a migration may run in a deploy."""

    EXPAND = "expand"
    CONTRACT = "contract"


class State(StrEnum):
    """Where a migration stands in one database."""

    APPLIED = "applied"
    PENDING = "pending"
    CHANGED = "changed"


@dataclass(frozen=True)
class Migration:
    """One numbered file, and what it says of itself."""

    version: int
    name: str
    file: SqlFile
    phase: Phase
    transactional: bool

    @classmethod
    def parse(cls, file: SqlFile) -> "Migration":
        """Read name and header.

        Raises:
            ConfigurationError: The file's name or its header is not of the kind described above.
        """
        match = _NAME.match(file.name)
        if match is None:
            message = f"sql/{file.name} must be named like 0042_add_task_tags.sql"
            raise ConfigurationError(message)
        header = _header(file.text)
        try:
            phase = Phase(header.get("phase", "expand"))
        except ValueError:
            message = f"sql/{file.name}: the phase is expand or contract, not {header['phase']}"
            raise ConfigurationError(message) from None
        return cls(int(match[1]), f"{match[1]}_{match[2]}", file, phase, header.get("transaction") != "none")


@dataclass(frozen=True)
class MigrationStatus:
    """One line of ``pipeline migrate --status``."""

    migration: Migration
    state: State
    applied_at: datetime | None


@dataclass(frozen=True)
class SchemaStatus:
    """How a database compares to this code."""

    migrations: tuple[MigrationStatus, ...]
    #: Functions and views whose text is not the one in force.
    changed_files: tuple[str, ...]
    #: Those of them that this database has never seen: it is older than the code, not newer.
    unknown_files: tuple[str, ...]
    #: Migrations that only the database knows: the code is the older one.
    newer: tuple[str, ...]

    def of_state(self, state: State) -> list[Migration]:
        """Give the migrations that stand there, in order."""
        return [line.migration for line in self.migrations if line.state is state]

    @property
    def missing(self) -> tuple[str, ...]:
        """Name what this code needs and the database lacks."""
        return (*(migration.name for migration in self.of_state(State.PENDING)), *self.unknown_files)


def migrate(url: str, schema: str = "pipeline", *, root: Traversable = ROOT) -> list[str]:
    """Apply what is missing, and return its names in order.

    A schema that knows more migrations than this code is left as it is: an old release that starts once more during a
    deploy must not bring its functions back.

    Raises:
        MigrationChanged: An applied file was edited. Nothing was done.
        DatabaseUnavailable: The server does not answer.
    """
    statements = load(schema)
    with closing(_connect(url)) as connection, _alone(connection, statements):
        _execute(connection, statements["create_bookkeeping"])
        found = _compare(connection, statements, root)
        for changed in found.of_state(State.CHANGED):
            raise MigrationChanged(changed.name)
        if found.newer:
            logger.warning("schema.newer_than_code", schema=schema, migrations=found.newer)
            return []
        return _Run(connection, statements, schema, root).apply(found)


def status(url: str, schema: str = "pipeline", *, root: Traversable = ROOT, within: int = 5) -> SchemaStatus:
    """Compare a database to this code, changing nothing. It must answer ``within`` seconds."""
    with closing(_connect(url, within)) as connection:
        return _compare(connection, load(schema), root)


def check(url: str, schema: str = "pipeline", *, root: Traversable = ROOT, within: int = 5) -> None:
    """Return if this code can work on that schema. A newer one is fine: that is what the phase "expand" is for.

    Raises:
        SchemaOutdated: Something this code needs is missing.
    """
    missing = status(url, schema, root=root, within=within).missing
    if missing:
        raise SchemaOutdated(schema, missing)


def _header(text: str) -> dict[str, str]:
    """Read ``-- key: value`` from the comment lines at the head of a file."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _HEADER.match(line):
            found[match[1]] = match[2]
    return found


# --- comparing --------------------------------------------------------------------------------------------------------


def _compare(connection: Connection, statements: Statements, root: Traversable) -> SchemaStatus:
    applied: dict[int, tuple[str, str, datetime]] = {}
    texts: dict[str, list[str]] = {}
    if _has_bookkeeping(connection, statements):
        for version, *row in _rows(connection, statements["applied_migrations"]):
            applied[version] = (row[0], row[1], row[2])
        for name, checksum in _rows(connection, statements["applied_files"]):
            texts.setdefault(name, []).append(checksum)
    migrations = _migrations(root)
    files = [*read_folder("functions", root), *read_folder("views", root)]
    known = {migration.version for migration in migrations}
    return SchemaStatus(
        migrations=tuple(_line(migration, applied.get(migration.version)) for migration in migrations),
        changed_files=tuple(file.name for file in files if [file.checksum] != texts.get(file.name, [])[-1:]),
        unknown_files=tuple(file.name for file in files if file.checksum not in texts.get(file.name, [])),
        newer=tuple(name for version, (name, _, _) in applied.items() if version not in known),
    )


def _migrations(root: Traversable) -> list[Migration]:
    migrations = [Migration.parse(file) for file in read_folder("migrations", root)]
    for one, next_one in pairwise(migrations):
        if one.version == next_one.version:
            message = f"Two migrations have the same number: {one.name} and {next_one.name}"
            raise ConfigurationError(message)
    return migrations


def _line(migration: Migration, applied: tuple[str, str, datetime] | None) -> MigrationStatus:
    if applied is None:
        return MigrationStatus(migration, State.PENDING, None)
    name, checksum, applied_at = applied
    unchanged = (name, checksum) == (migration.name, migration.file.checksum)
    return MigrationStatus(migration, State.APPLIED if unchanged else State.CHANGED, applied_at)


# --- applying ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """One runner at work, alone in the database."""

    connection: Connection
    statements: Statements
    schema: str
    root: Traversable

    def apply(self, found: SchemaStatus) -> list[str]:
        """Run what is pending: whole transactions as far as possible, the last with functions and views."""
        together: list[Migration] = []
        pending = found.of_state(State.PENDING)
        for migration in pending:
            if migration.transactional:
                together.append(migration)
                continue
            self._apply_together(together)
            self._apply_alone(migration)
            together = []
        self._apply_with_files(together, found.changed_files)
        names = [*(migration.name for migration in pending), *found.changed_files]
        if names:
            logger.info("schema.migrated", schema=self.schema, applied=names)
        return names

    def _apply_together(self, migrations: Sequence[Migration]) -> None:
        if migrations:
            with self._transaction() as cursor:
                self._run_migrations(cursor, migrations)

    def _apply_with_files(self, migrations: Sequence[Migration], changed: Sequence[str]) -> None:
        if not migrations and not changed:
            return
        functions = [file for file in read_folder("functions", self.root) if file.name in changed]
        renews_views = bool(migrations) or any(name.startswith("views/") for name in changed)
        views = read_folder("views", self.root) if renews_views else []
        with self._transaction() as cursor:
            if renews_views:
                cursor.execute(self.statements["drop_views"])
            self._run_migrations(cursor, migrations)
            for file in [*functions, *views]:
                self._execute(cursor, file)
                cursor.execute(self.statements["record_file"], {"name": file.name, "checksum": file.checksum})
            cursor.execute(self.statements["apply_grants"])

    def _run_migrations(self, cursor: Cursor, migrations: Sequence[Migration]) -> None:
        for migration in migrations:
            self._execute(cursor, migration.file)
            self._record(cursor, migration)

    def _apply_alone(self, migration: Migration) -> None:
        """Run statements that refuse to be in a transaction, and record the file when all are through."""
        with self.connection.cursor() as cursor:
            cursor.execute(self.statements["enter_statement"])
            for part in _NEXT_STATEMENT.split(migration.file.text):
                self._execute(cursor, replace(migration.file, text=part))
            cursor.execute(self.statements["leave_statement"])
            self._record(cursor, migration)

    def _execute(self, cursor: Cursor, file: SqlFile) -> None:
        """Run a whole file as it stands; an error says which one it came from."""
        try:
            cursor.execute(render(file.text, self.schema))
        except psycopg2.Error as error:
            error.add_note(f"This came from sql/{file.name}; nothing of its transaction has happened.")
            raise

    def _record(self, cursor: Cursor, migration: Migration) -> None:
        parameters = {"version": migration.version, "name": migration.name, "checksum": migration.file.checksum}
        cursor.execute(self.statements["record_migration"], parameters)

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(self.statements["enter_migration"])
            yield cursor


# --- the connection ---------------------------------------------------------------------------------------------------


def _connect(url: str, within: int = 5) -> Connection:
    connection = connect(url, within=within, application_name="pipeline migrate")
    connection.autocommit = True
    return connection


@contextmanager
def _alone(connection: Connection, statements: Statements) -> Iterator[None]:
    """Keep other runners out, by looking again and again and holding no snapshot in between."""
    pause = threading.Event()
    while not _value(connection, statements["try_migration_lock"]):
        pause.wait(_LOOK_SECONDS)
    try:
        yield
    finally:
        if not connection.closed:
            _execute(connection, statements["release_migration_lock"])


def _has_bookkeeping(connection: Connection, statements: Statements) -> bool:
    return bool(_value(connection, statements["has_bookkeeping"]))


def _execute(connection: Connection, text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)


def _value(connection: Connection, text: str) -> object:
    (row,) = _rows(connection, text)
    return row[0]


def _rows(connection: Connection, text: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()
