"""Text that PostgreSQL can store."""

from __future__ import annotations


def clean(text: str) -> str:
    """Leave out what PostgreSQL cannot store: an error's text, or a note, may hold anything."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
