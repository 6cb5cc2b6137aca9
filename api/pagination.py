"""Lists in pieces: ``?limit=20&cursor=…``, where the cursor is the last id that was seen."""

from __future__ import annotations

from uuid import UUID

from flask import abort, request

_LIMIT = 20
_LONGEST = 200


def read_limit() -> int:
    """Read how many entries are wanted."""
    text = request.args.get("limit", str(_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LONGEST:
        abort(400, f"limit is a number from 1 to {_LONGEST}")
    return int(text)


def read_cursor() -> str | None:
    """Read behind which entry to go on."""
    text = request.args.get("cursor")
    try:
        return None if text is None else str(UUID(text))
    except ValueError:
        abort(400, "cursor is the next_cursor of an earlier answer")
