"""What the application that serves a request was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy

if TYPE_CHECKING:
    from api.extension import Pipeline
    from pipeline.settings import Settings

#: The database session of a request in our own application.
db = SQLAlchemy()


def attached() -> Pipeline:
    """Return our extension of this application."""
    return attached_to(current_app)


def attached_to(app: Flask) -> Pipeline:
    """Return our extension of an application."""
    extension: Pipeline = app.extensions["pipeline"]
    return extension


def app_settings() -> Settings:
    """Return the settings of the task queue in this application."""
    return attached().settings
