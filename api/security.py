"""All that protects the application, in the order in which a request meets it."""

from __future__ import annotations

from flask import Flask, Response
from flask.sansio.scaffold import Scaffold
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, cors, headers, limits
from pipeline.settings import Settings


def init_app(app: Flask, settings: Settings) -> None:
    """Protect an application that is ours alone: each of its routes, whoever adds it."""
    if settings.http_proxies:
        # Whoever sends these headers says who asks, so they are believed of so many proxies and by default of nobody.
        # Host has to come through as it is.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.http_proxies, x_proto=settings.http_proxies, x_host=0, x_port=0, x_prefix=0
        )
    if "static" in app.view_functions:
        auth.public(app.view_functions["static"])
    register(app)


def register(part: Scaffold) -> None:
    """Protect the routes of an application, or only those of a blueprint in an application that is somebody else's."""
    part.before_request(cors.answer_preflight)
    part.before_request(auth.authorise)
    part.before_request(limits.limit_body)
    part.after_request(mark)


def mark(response: Response) -> Response:
    """Add what every answer says, and whose pages may read it."""
    return headers.add(cors.mark(response))
