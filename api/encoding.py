"""How values become JSON."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask.json.provider import DefaultJSONProvider


class JsonProvider(DefaultJSONProvider):
    """Times in ISO 8601 instead of HTTP's format, text as it is, keys in the order that was chosen."""

    ensure_ascii = False
    sort_keys = False

    @staticmethod
    def default(value: Any) -> Any:
        """Write what JSON has no word for."""
        return value.isoformat() if isinstance(value, date) else DefaultJSONProvider.default(value)
