"""Refuse to work on a schema that is older than this code."""

from __future__ import annotations

from flask import Flask, current_app, request

from api.extensions import app_settings
from pipeline import get_broker
from pipeline.db import migrate

#: These tell what is wrong themselves.
_EXEMPT = frozenset({"health", "metrics"})


def init_app(app: Flask) -> None:
    """Look before requests, until the schema was found to be good."""
    app.before_request(_refuse_outdated)


def check() -> None:
    """Return if the database answers and its schema is not older than this code.

    Raises:
        DatabaseUnavailable: It does not answer.
        SchemaOutdated: It is older; the message names the command that helps.
    """
    migrate.check(get_broker().url, app_settings().schema_name)


def _refuse_outdated() -> None:
    if (
        request.endpoint is None
        or request.blueprint in _EXEMPT
        or current_app.extensions.get("pipeline.schema_is_current")
    ):
        return
    check()
    current_app.extensions["pipeline.schema_is_current"] = True
