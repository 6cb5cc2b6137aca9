"""Acting: who does it, in one transaction, and only on what the client has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed

from api.auth import who
from api.extensions import app_settings
from api.problems import BodyInvalid
from api.visibility import sight
from pipeline.broker.sender import in_our_words
from pipeline.runtime import ask_within
from pipeline.store.audit import By

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from api.shapes.commands import Reason

T = TypeVar("T")

#: Done on a transaction: gets the statements and a cursor. What takes a ``target`` gets the cursor's connection.
Deed = Callable[[Mapping[str, str], "Cursor"], T]


def by(said: Reason) -> By:
    """Tell who does what a body says, and why."""
    return By(who(), said.reason)


def act(deed: Deed[T], *, seconds: float | None = None) -> T:
    """Do something in one transaction of its own.

    It is done again if the connection turns out broken at once, so it must be safe to repeat.

    Args:
        deed: What to do.
        seconds: So long each of its statements may take; by default PIPELINE_HTTP_STATEMENT_SECONDS.

    Raises:
        QueryTimedOut: It would take longer, maybe since somebody else is at it: 504. Nothing has changed.
        DatabaseUnavailable: PostgreSQL does not answer: 503.
    """
    sight()  # now: inside the transaction it might want a second connection, and so might all others who have one
    with in_our_words():
        return ask_within(seconds or app_settings().http_statement_seconds, deed)


def check_seen(answer: Callable[[], Response]) -> None:
    """Refuse if the client wants to act on something that it has seen, and that has changed since.

    Args:
        answer: Keeps the thing from being changed meanwhile, and makes the answer that a client gets now which wants to
            see it; not called if it does not matter.

    Raises:
        PreconditionFailed: ``If-Match`` names another ETag.
    """
    if not request.if_match or request.if_match.star_tag:
        return
    version = _version(answer().get_etag()[0] or "")
    if version not in map(_version, filter(None, request.if_match.as_set())):  # an empty one is None in there
        raise PreconditionFailed("It was changed since; look at it again")


def _version(etag: str) -> str:
    """Give the part of an ETag that changes with what commands change: of some things that is all of it."""
    return etag.partition(".")[0]


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
