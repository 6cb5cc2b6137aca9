"""Blueprints are found by being there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from flask import Blueprint


def blueprints_of(package: str) -> Iterator[Blueprint]:
    """Import every module of a package that holds a Blueprint called ``blueprint``, and yield those."""
    for module in iter_modules(import_module(package).__path__):
        if not module.ispkg:
            yield import_module(f"{package}.{module.name}").blueprint
