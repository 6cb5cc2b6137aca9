"""The application, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from api import errors, schema, security, transactions
from api.blueprints import register_all
from api.encoding import JsonProvider
from api.extensions import db
from pipeline import get_broker
from pipeline.db.dsn import Dsn
from pipeline.store.audit import acting_from

if TYPE_CHECKING:
    from pipeline.settings import Settings


class Application(Flask):
    """Flask with our JSON, and our name in the audit trail."""

    json_provider_class = JsonProvider

    def wsgi_app(self, *request: Any) -> Any:
        """Answer a request; what it commands is noted as coming from here."""
        with acting_from("api"):
            return super().wsgi_app(*request)


def create_app(settings: Settings | None = None, **config: Any) -> Application:
    """Make the application. Opens no connection, so that it starts, and says what is wrong, while the database is away.

    Args:
        settings: Instead of those of the process's broker. The database must be the one the broker uses.
        config: Flask's own configuration, and ``COMMIT_SENDS`` (see ``api.transactions``).
    """
    settings = settings or get_broker().settings
    app = Application(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.upload_limit_bytes,
        SQLALCHEMY_DATABASE_URI=Dsn.parse(settings.database_url or get_broker().url).sqlalchemy,
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_pre_ping": True,
            "pool_size": settings.http_threads,
            "connect_args": {"connect_timeout": settings.connect_timeout_seconds},
        },
    )
    app.config.update(config)
    app.url_map.strict_slashes = False
    app.extensions["pipeline"] = settings
    db.init_app(app)
    for part in (errors, schema, transactions):
        part.init_app(app)
    security.init_app(app, settings)
    register_all(app)
    return app
