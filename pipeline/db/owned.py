"""Connections whose transaction can belong to the engine: a user's own COMMIT in it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from psycopg2.extensions import connection, cursor

from pipeline.errors import TransactionOwned

#: Statements that would end the transaction under the engine's feet. ROLLBACK TO and PREPARE of a statement are others.
_ENDINGS = ("COMMIT", "END", "ROLLBACK", "ABORT", "BEGIN", "START", "PREPARE")
_FIRST_LETTERS = frozenset("CERABSPcerabsp")


class Owner(Protocol):
    """Who is told about savepoints, so that what was sent since can be forgotten."""

    def savepoint_set(self, name: str) -> None: ...

    def savepoint_rolled_back(self, name: str) -> None: ...


class OwnableConnection(connection):
    """A psycopg2 connection that refuses commit, rollback and close while somebody owns its transaction.

    psycopg2 and SQLAlchemy end transactions through these methods, so both are caught here. ``COMMIT`` as text is
    caught by the cursor.
    """

    owner: Owner | None = None
    #: The worker that this session is registered with.
    registered_for: int | None = None

    def commit(self) -> None:
        """Commit, unless the transaction is owned."""
        self._check("commit")
        super().commit()

    def rollback(self) -> None:
        """Roll back, unless the transaction is owned."""
        self._check("rollback")
        super().rollback()

    def close(self) -> None:
        """Close, unless it is only lent: SQLAlchemy closes what it was given."""
        if self.owner is None:
            super().close()

    def own(self, owner: Owner) -> None:
        """Begin a transaction that only ``disown`` can end."""
        self.autocommit = False
        self.cursor_factory = OwnedCursor
        self.owner = owner

    def disown(self) -> None:
        """Let the transaction be ended again."""
        self.owner = None
        self.cursor_factory = cursor

    def _check(self, what: str) -> None:
        if self.owner is not None:
            message = f"{what} inside a transaction of the engine: it commits when the actor (or the step) ends"
            raise TransactionOwned(message)


class OwnedCursor(cursor):
    """A cursor that notices the statements a transaction is ruled by."""

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run a statement.

        Raises:
            TransactionOwned: The statement would end or begin a transaction.
        """
        then = _watch(query, self)
        super().execute(query, vars)
        if then is not None:
            then()


def _watch(query: Any, cur: OwnedCursor) -> Callable[[], None] | None:
    """Refuse what ends the transaction; tell what to do after a statement about a savepoint."""
    text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(cur)
    text = text.lstrip()
    if text[:1] not in _FIRST_LETTERS:
        return None
    words = text[:200].rstrip("; \n").split()
    verb = words[0].rstrip(";").upper()
    owner: Owner | None = cur.connection.owner  # type: ignore[attr-defined]
    if owner is None:
        return None
    if verb == "SAVEPOINT" and len(words) > 1:
        return lambda: owner.savepoint_set(words[1])
    if verb == "ROLLBACK" and "TO" in map(str.upper, words[1:3]):
        return lambda: owner.savepoint_rolled_back(words[-1])
    if verb in _ENDINGS and not (verb == "PREPARE" and words[1:2] != ["TRANSACTION"]):
        message = f"{verb} inside a transaction of the engine: it commits when the actor (or the step) ends"
        raise TransactionOwned(message)
    return None
