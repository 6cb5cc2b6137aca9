"""What only our own application has: a page at its address, and the endpoints of the business it was made for.

One file per noun, found by being there: it holds a Blueprint called ``blueprint``.
"""

from __future__ import annotations

from flask import Flask

from api.discovery import blueprints_of


def register_all(app: Flask) -> None:
    """Register the blueprint of every module here."""
    for blueprint in blueprints_of(__name__):
        app.register_blueprint(blueprint)
