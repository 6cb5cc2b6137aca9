"""Acting: who does it, in one transaction, and only on what the client has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from flask import request
from werkzeug.exceptions import PreconditionFailed

from api.extensions import app_settings
from api.problems import BodyInvalid
from pipeline.broker.sender import in_our_words
from pipeline.runtime import ask_within
from pipeline.store.audit import By

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from api.shapes.commands import Command

T = TypeVar("T")

#: Done on a transaction: gets the statements and a cursor. What takes a ``target`` gets the cursor's connection.
Deed = Callable[[Mapping[str, str], "Cursor"], T]


def who() -> str:
    """Name whom the audit trail names."""
    return "api"


def by(said: Command) -> By:
    """Tell who does what a body says, and why."""
    return By(who(), said.reason)


def act(deed: Deed[T]) -> T:
    """Do something in one transaction of its own, whose statements may take PIPELINE_HTTP_STATEMENT_SECONDS each.

    It is done again if the connection turns out broken at once, so it must be safe to repeat.

    Raises:
        QueryTimedOut: It would take longer, maybe since somebody else is at it: 504. Nothing has changed.
        DatabaseUnavailable: PostgreSQL does not answer: 503.
    """
    with in_our_words():
        return ask_within(app_settings().http_statement_seconds, deed)


def check_seen(etag: str | None) -> None:
    """Refuse if the client wants to act on something that it has seen, and that has changed since.

    Raises:
        PreconditionFailed: ``If-Match`` names another ETag.
    """
    if request.if_match and (etag is None or not request.if_match.contains(etag)):
        raise PreconditionFailed("It was changed since; look at it again")


@contextmanager
def blamed_on(field: str, *errors: type[Exception]) -> Iterator[None]:
    """Let errors be the fault of a field of the body.

    Raises:
        BodyInvalid: One of them was raised.
    """
    try:
        yield
    except errors as error:
        raise BodyInvalid({f"#/{field}": str(error)}) from error
