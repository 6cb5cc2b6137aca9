"""The endpoints, one file per noun. A new file is found by being there: it holds a Blueprint called ``blueprint``."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from flask import Flask


def register_all(app: Flask) -> None:
    """Register the blueprint of every module here."""
    for module in iter_modules(__path__):
        app.register_blueprint(import_module(f"{__name__}.{module.name}").blueprint)
