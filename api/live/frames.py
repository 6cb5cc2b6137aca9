"""Server-sent events as bytes: ``text/event-stream``, as the HTML standard has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.encoding import encode

MEDIA_TYPE = "text/event-stream"
#: A comment, which clients skip: it keeps proxies from hanging up, and shows whether anybody is there.
HEARTBEAT = b": still here\n\n"
#: So much is written at a time: it finds room in a buffer of 64 KiB (``client``) that takes anything at all. Not less,
#: since each piece is a turn with the GIL, which a hundred clients want at once.
_PIECE_BYTES = 16_384


def frame(event: str, data: Any, event_id: str | None = None) -> bytes:
    """Write an event. JSON holds no line ends, so its data is one line."""
    named = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return b"event: " + event.encode() + b"\n" + named + b"data: " + encode(data) + b"\n\n"


def opening(retry_ms: int) -> bytes:
    """Begin a stream: tell the client how long to wait before it connects again."""
    return f"retry: {retry_ms}\n\n".encode()


def pieces(text: bytes) -> Iterator[bytes]:
    """Cut into what is written at a time."""
    for start in range(0, len(text), _PIECE_BYTES):
        yield text[start : start + _PIECE_BYTES]
