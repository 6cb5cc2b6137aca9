"""Questions to the database, none of which may take long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from api.extensions import app_settings
from pipeline.runtime import ask_within

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

P = ParamSpec("P")
R = TypeVar("R")


def read(statement: Callable[Concatenate[Mapping[str, str], Cursor, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function of the store for so long as PIPELINE_HTTP_STATEMENT_SECONDS allows.

    It is safe to repeat, as what only reads is, or remembers that somebody was here.

    Raises:
        QueryTimedOut: It would take longer: 504.
        DatabaseUnavailable: PostgreSQL does not answer: 503, within three seconds.
    """
    return ask_within(app_settings().http_statement_seconds, statement, *args, **kwargs)
