"""Events as bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from api.live.frames import HEARTBEAT, frame, opening, pieces
from tests.fixtures.web import Heard

ANYTHING = some.dictionaries(some.text(max_size=20), some.text(max_size=50) | some.integers() | some.none(), max_size=4)


def heard(text: bytes) -> Heard:
    """Read as a client does."""
    found = Heard()
    for block in text.decode().split("\n\n")[:-1]:
        found.take_in(block)
    return found


@settings(max_examples=30)
@given(ANYTHING)
def test_an_event_is_heard_as_it_was_written(data: Any) -> None:
    (event,) = heard(frame("changed", data, "7")).events

    assert (event.name, event.id, event.data) == ("changed", "7", json.loads(json.dumps(data)))


def test_no_text_can_begin_another_event() -> None:
    (event,) = heard(frame("task", {"note": "a\n\nevent: end\ndata: {}\n\n\r\u2028b"}, "1")).events

    assert event.data == {"note": "a\n\nevent: end\ndata: {}\n\n\r\u2028b"}


def test_times_are_iso_8601() -> None:
    assert b'"2026-11-26T12:00:00+00:00"' in frame("task", datetime(2026, 11, 26, 12, tzinfo=UTC))


def test_an_event_without_an_id_leaves_the_last_one_standing() -> None:
    assert b"id:" not in frame("outage", {})


def test_half_of_a_surrogate_pair_does_not_end_a_stream() -> None:
    assert heard(frame("task", {"note": "\ud800"})).events


def test_a_heartbeat_is_a_comment_and_no_event() -> None:
    found = heard(opening(2500) + HEARTBEAT)

    assert (found.events, found.comments, found.retry) == ([], 1, 2500)


@given(some.binary(max_size=40_000))
def test_pieces_are_small_and_make_the_whole(text: bytes) -> None:
    cut = list(pieces(text))

    assert b"".join(cut) == text
    assert all(0 < len(piece) <= 16_384 for piece in cut)
