"""Refuse to work on a schema that is older than this code."""

from __future__ import annotations

from flask import current_app, request

from api.extensions import app_settings
from pipeline import get_broker
from pipeline.db import migrate

#: These tell what is wrong themselves, or need no database.
_EXEMPT = frozenset({"pipeline.health", "pipeline.metrics", "pipeline.document"})
_WITHIN_SECONDS = 2


def check() -> None:
    """Return if the database answers and its schema is not older than this code.

    Raises:
        DatabaseUnavailable: It does not answer.
        SchemaOutdated: It is older; the message names the command that helps.
    """
    migrate.check(get_broker().url, app_settings().schema_name, within=_WITHIN_SECONDS)


def refuse_outdated() -> None:
    """Look before requests, until the schema was found to be good."""
    if (
        request.endpoint is None
        or request.blueprint in _EXEMPT
        or current_app.extensions.get("pipeline.schema_is_current")
    ):
        return
    check()
    current_app.extensions["pipeline.schema_is_current"] = True
