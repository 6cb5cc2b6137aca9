"""How values become JSON."""

from __future__ import annotations

import json
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


def encode(value: Any) -> bytes:
    """Write JSON as :class:`JsonProvider` does, whatever the application's own provider is, which may be another's."""
    try:
        return _dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
        return _dumps(value, ensure_ascii=True).encode()


def _dumps(value: Any, *, ensure_ascii: bool) -> str:
    return json.dumps(value, default=JsonProvider.default, ensure_ascii=ensure_ascii, separators=(",", ":"))
