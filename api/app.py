"""The application, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from api import errors, schema, site
from api.encoding import JsonProvider
from api.extension import Pipeline
from api.extensions import db
from pipeline import get_broker
from pipeline.db.dsn import Dsn

if TYPE_CHECKING:
    from pipeline.settings import Settings

#: A database that is away is told about within three seconds.
DATABASE_SECONDS = 2


class Application(Flask):
    """Flask with our JSON."""

    json_provider_class = JsonProvider


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
            "pool_timeout": DATABASE_SECONDS,
            "connect_args": {"connect_timeout": DATABASE_SECONDS},
        },
    )
    app.config.update(config)
    app.url_map.strict_slashes = False
    db.init_app(app)
    errors.register(app)
    Pipeline(app, db, url_prefix="", settings=settings)
    app.before_request(schema.refuse_outdated)
    site.register_all(app)
    return app
