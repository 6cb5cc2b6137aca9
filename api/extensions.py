"""The database session of a request."""

from __future__ import annotations

from flask import current_app
from flask_sqlalchemy import SQLAlchemy

from pipeline.settings import Settings

db = SQLAlchemy()


def app_settings() -> Settings:
    """Return the settings of the application that serves this request."""
    settings: Settings = current_app.extensions["pipeline"]
    return settings
