"""How values become JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from api.encoding import encode


@pytest.mark.parametrize("value", ["ä😀", "\ud800", {"b": 1, "a": [None, True]}, "\u2028</script>"])
def test_what_is_written_is_read_again(value: Any) -> None:
    assert json.loads(encode(value)) == value


def test_text_stays_text_and_times_have_their_zone() -> None:
    assert (
        encode({"b": "ä", "a": datetime(2026, 12, 24, 18, tzinfo=UTC)})
        == '{"b":"ä","a":"2026-12-24T18:00:00+00:00"}'.encode()
    )
