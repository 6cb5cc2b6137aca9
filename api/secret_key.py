"""The key that all web servers of one database sign with: PIPELINE_SECRET_KEY, or one that the database keeps."""

from __future__ import annotations

import hmac

from flask import current_app

from api.extensions import app_settings
from api.reading import read
from pipeline.store import tokens

_KEPT = "pipeline.secret_key"


def signing_key(purpose: str) -> bytes:
    """Derive the key for one purpose, so that what was signed for another one is worth nothing here."""
    return hmac.digest(_secret(), purpose.encode(), "sha256")


def _secret() -> bytes:
    given = app_settings().secret_key
    if given is not None:
        return given.encode()
    if _KEPT not in current_app.extensions:
        current_app.extensions[_KEPT] = read(tokens.shared_secret)
    secret: bytes = current_app.extensions[_KEPT]
    return secret
