"""All that protects the application, in the order in which a request meets it."""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, cors, headers, limits
from pipeline.settings import Settings


def init_app(app: Flask) -> None:
    """Protect an application that is ours alone."""
    settings: Settings = app.extensions["pipeline"]
    if settings.http_proxies:
        # Whoever sends these headers says who asks, so they are believed of so many proxies and by default of nobody.
        # Host has to come through as it is.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.http_proxies, x_proto=settings.http_proxies, x_host=0, x_port=0, x_prefix=0
        )
    for part in (headers, cors, auth, limits):
        part.init_app(app)
