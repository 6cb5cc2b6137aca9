"""Connections whose transaction can belong to the engine: a user's own COMMIT in it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import psycopg2
from psycopg2.extensions import STATUS_READY, TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.sql import SQL, Composable

from pipeline.errors import TransactionOwned

#: Statements that would end the transaction under the engine's feet. ROLLBACK TO and PREPARE of a statement are others.
_ENDINGS = ("COMMIT", "END", "ROLLBACK", "ABORT", "BEGIN", "START", "PREPARE")
_FIRST_LETTERS = frozenset("CERABSPcerabsp")
#: The longest of them: ROLLBACK TRANSACTION TO SAVEPOINT name.
_WORDS = 5
_LONGEST = 200
#: Where a semicolon or a word means nothing: comments, strings, quoted names, dollar quotes.
_SKIPPED = re.compile(
    r"""--[^\n]* | /\*(?:[^*/] | \*(?!/) | /(?!\*) | /\*.*?\*/)*\*/ | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' |
    "(?:[^"]|"")*" | \$(\w*)\$.*?\$\1\$""",
    re.VERBOSE | re.DOTALL,
)


class Owner(Protocol):
    """Who is told about savepoints, so that what was sent since can be forgotten."""

    def savepoint_set(self, name: str) -> None: ...

    def savepoint_rolled_back(self, name: str) -> None: ...

    def savepoint_released(self, name: str) -> None: ...


class OwnableConnection(connection):
    """A psycopg2 connection that refuses commit, rollback and close while somebody owns its transaction.

    psycopg2 and SQLAlchemy end transactions through these methods, so both are caught here. ``COMMIT`` as text is
    caught by the cursor.

    psycopg2 sends BEGIN and COMMIT by themselves, a round trip each. Here BEGIN travels with the first statement of our
    cursor, and what is to be the last statement with COMMIT. psycopg2 is told then that it is in autocommit, so that it
    adds nothing. Whatever comes in another way (a named cursor, COPY, a cursor of another class) gets psycopg2's BEGIN,
    and the transaction its COMMIT.
    """

    owner: Owner | None = None
    #: Lent to SQLAlchemy, which closes what it was given.
    is_lent = False
    #: The worker that this session is registered with.
    registered_for: int | None = None
    #: The server's session is this connection's own, and has the last statement of a transaction parsed and planned.
    is_prepared = False
    #: How many single sends went this way, and whether the server's session has them parsed and planned.
    sends = 0
    has_prepared_sends = False
    #: Whoever handed it out, until it comes back.
    lent_by: object = None

    #: BEGIN went with the first statement, so psycopg2 does not know of the transaction.
    has_begun = False
    #: What is executed together with COMMIT.
    last_statement = ""

    def commit(self) -> None:
        """Commit, unless the transaction is owned."""
        self.check_owner("commit")
        last, self.last_statement = self.last_statement, ""
        if self.has_begun:
            self._execute(f"{last};COMMIT")
            self.has_begun = False
        elif last and self.status == STATUS_READY:  # nothing was executed: it is a transaction by itself
            self.autocommit = True
            self._execute(last)
        else:
            if last:
                self._execute(last)
            super().commit()

    def rollback(self) -> None:
        """Roll back, unless the transaction is owned."""
        self.check_owner("rollback")
        self.last_statement = ""
        if self.has_begun:
            self.has_begun = False
            if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                self._execute("ROLLBACK")
        else:
            super().rollback()

    def _execute(self, statement: str) -> None:
        with super().cursor(cursor_factory=cursor) as plain:
            plain.execute(statement)

    def begin_with(self, execute: Callable[[Any, Any], None], query: Any, vars: Any) -> None:
        """Execute the first statement of a transaction, and BEGIN with it."""
        self.autocommit, self.has_begun = True, True
        try:
            execute(_begin(query), vars)
        except BaseException:
            if not self.closed and self.get_transaction_status() == TRANSACTION_STATUS_IDLE:  # it got no further
                self.autocommit, self.has_begun = False, False
            raise

    @property
    def may_begin_with(self) -> bool:
        """Tell whether the next statement is the first of an owned transaction that is like any other."""
        is_first = self.owner is not None and not self.autocommit and self.status == STATUS_READY
        return is_first and self.isolation_level is self.readonly is self.deferrable is None

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Open a cursor."""
        if self.has_begun and (args[0] if args else kwargs.get("name")) is not None:
            self._leave_to_psycopg2()
        return super().cursor(*args, **kwargs)

    def lobject(self, *args: Any, **kwargs: Any) -> Any:
        """Open a large object."""
        if self.has_begun:
            self._leave_to_psycopg2()
        return super().lobject(*args, **kwargs)

    def set_session(self, *args: Any, **kwargs: Any) -> None:
        """Set what transactions are like; not inside of one."""
        if self.has_begun:
            raise psycopg2.ProgrammingError("set_session cannot be used inside a transaction")
        super().set_session(*args, **kwargs)

    def _leave_to_psycopg2(self) -> None:
        """Let psycopg2 know that there is a transaction; the server notes that its BEGIN is one too many."""
        self.autocommit, self.has_begun = False, False
        self._execute("SELECT")

    def close(self) -> None:
        """Close, unless it is only lent."""
        if not self.is_lent:
            super().close()

    def own(self, owner: Owner) -> None:
        """Begin a transaction that only ``disown`` can end."""
        self.autocommit = False
        self.cursor_factory = OwnedCursor
        self.owner = owner
        self.is_lent = True

    def disown(self) -> None:
        """Let the transaction be ended again."""
        self.owner = None
        self.cursor_factory = cursor

    def check_owner(self, what: str) -> None:
        """Refuse if the transaction is owned.

        Raises:
            TransactionOwned: It is.
        """
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
        conn: OwnableConnection = self.connection  # type: ignore[assignment]
        if self.name is None and conn.may_begin_with:
            conn.begin_with(super().execute, query, vars)
        else:
            super().execute(query, vars)
        self._concluded(then)

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Run a statement with each of many rows of parameters. Raises as :meth:`execute` does."""
        then = _watch(query, self)
        super().executemany(query, vars_list)
        self._concluded(then)

    def _concluded(self, then: list[Callable[[], None]]) -> None:
        for tell in then:
            tell()
        conn: OwnableConnection = self.connection  # type: ignore[assignment]
        if conn.owner is not None and conn.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            message = "the transaction of the engine was ended by a statement in it"
            raise TransactionOwned(message)


def _begin(query: Any) -> Any:
    """Put BEGIN before a statement, whatever it is made of."""
    if isinstance(query, Composable):
        return SQL("BEGIN;") + query
    return "BEGIN;" + query if isinstance(query, str) else b"BEGIN;" + query


def _watch(query: Any, cur: OwnedCursor) -> list[Callable[[], None]]:
    """Refuse what ends the transaction; tell what to do after statements about savepoints."""
    text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(cur)
    owner: Owner | None = cur.connection.owner  # type: ignore[attr-defined]
    if owner is None:
        return []
    return [then for words in _statements(text) if (then := _ruling(words, owner)) is not None]


def _statements(text: str) -> Iterator[list[str]]:
    """Yield the first words of each statement that may matter, without comments."""
    text = text.strip("; \n\t\r")
    if ";" in text or "--" in text or "/*" in text:
        text = _SKIPPED.sub(_placeholder, text)
    elif text[:1] in _FIRST_LETTERS:
        text = text[:_LONGEST]
    else:
        return
    for statement in text.split(";"):
        words = statement.split(maxsplit=_WORDS)[:_WORDS]
        if words:
            yield words


def _placeholder(skipped: re.Match[str]) -> str:
    """Keep a quoted name, which may be a savepoint's; strings and comments matter to nobody."""
    found = skipped[0]
    return re.sub(r"[\s;]", "_", found) if found.startswith('"') else " "


def _ruling(words: list[str], owner: Owner) -> Callable[[], None] | None:
    verb = words[0].upper()
    rest = [word.upper() for word in words[1:]]
    name = words[-1][1:-1] if words[-1].startswith('"') else words[-1].lower()
    if verb == "SAVEPOINT":
        return lambda: owner.savepoint_set(name)
    if verb == "ROLLBACK" and "TO" in rest[:2]:
        return lambda: owner.savepoint_rolled_back(name)
    if verb == "RELEASE":
        return lambda: owner.savepoint_released(name)
    if verb in _ENDINGS and not (verb == "PREPARE" and rest[:1] != ["TRANSACTION"]):
        message = f"{verb} inside a transaction of the engine: it commits when the actor (or the step) ends"
        raise TransactionOwned(message)
    return None
