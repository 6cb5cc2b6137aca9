"""The endpoints of the task queue, one file per noun: ``v1`` holds the REST API, this folder what stands beside it.

A new file is found by being there: it holds a Blueprint called ``blueprint``. How to add an endpoint is told in
``api.endpoints``.
"""

from __future__ import annotations

from flask import Blueprint

from api.discovery import blueprints_of


def register_all(part: Blueprint) -> None:
    """Put the blueprint of every module here, and of the REST API, into a part of an application."""
    for package in (__name__, f"{__name__}.v1"):
        for blueprint in blueprints_of(package):
            part.register_blueprint(blueprint)
