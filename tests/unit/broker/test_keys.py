"""What a message may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from dramatiq import Message

from pipeline import MessageNotEncodable
from pipeline.broker.keys import KEY_BYTES, holds_keys, keys_of
from pipeline.context import NewTask

DAY_MS = 24 * 3600 * 1000


def written(**options: Any) -> Any:
    return keys_of(Message("q", "a", (), {}, options), {})


@pytest.mark.parametrize("options", [{}, {"unique_key": None}, {"on_conflict": "error"}, {"idempotency_window": 5}])
def test_a_message_without_a_key_has_none(options: dict[str, Any]) -> None:
    assert written(**options) is None
    assert not holds_keys(options)


def test_keys_are_written_with_what_is_said_about_them() -> None:
    assert written(unique_key="a", on_conflict="replace") == {"unique_key": "a", "on_conflict": "replace"}
    assert written(idempotency_key="b") == {"idempotency_key": "b", "window_ms": DAY_MS}
    assert written(idempotency_key="b", idempotency_window=1500.0)["window_ms"] == 1500


@pytest.mark.parametrize("key", ["x", "x" * KEY_BYTES, "ü" * (KEY_BYTES // 2), '"quoted"\\'])
def test_a_key_may_have_up_to_512_bytes(key: str) -> None:
    assert written(unique_key=key) == {"unique_key": key}


@pytest.mark.parametrize("name", ["unique_key", "idempotency_key"])
@pytest.mark.parametrize("key", ["", "x" * (KEY_BYTES + 1), "ü" * KEY_BYTES, 7, ["a"], "a\0b", "\ud800"])
def test_what_is_no_key_is_refused(name: str, key: Any) -> None:
    with pytest.raises(MessageNotEncodable, match=f"The message for a: the {name}"):
        written(**{name: key})


@pytest.mark.parametrize("window", [0, -1, "1", True, float("nan"), float("inf"), 1e20])
def test_a_window_is_a_number_of_milliseconds_above_0(window: Any) -> None:
    with pytest.raises(MessageNotEncodable, match="idempotency_window"):
        written(idempotency_key="a", idempotency_window=window)


@pytest.mark.parametrize("on_conflict", ["ignore", 1, ["skip"]])
def test_there_are_three_ways_out_of_a_conflict(on_conflict: Any) -> None:
    with pytest.raises(MessageNotEncodable, match="on_conflict is 'skip' or 'replace' or 'error'"):
        written(unique_key="a", on_conflict=on_conflict)


def test_a_message_may_do_without_the_key_that_its_actor_makes() -> None:
    declared = {"unique_key": lambda: "made", "tenant": "one"}
    sent = Message("q", "a", (), {}, {"unique_key": None})

    assert keys_of(sent, declared) == {"tenant": "one"}
    assert keys_of(sent.copy(options={"unique_key": "own"}), declared) == {"unique_key": "own", "tenant": "one"}


def test_a_member_of_a_group_that_is_waited_for_has_no_key() -> None:
    """It would be waited for and never come."""
    with pytest.raises(MessageNotEncodable, match="group"):
        written(unique_key="a", group_completion_uuid="g")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (None, False),
        ('{"other": "\\"unique_key\\""}', False),
        ('{"unique_key": "a"}', True),
        ('{"idempotency_key": "a"}', True),
    ],
)
def test_a_task_with_a_key_may_give_way(keys: str | None, expected: bool) -> None:
    assert NewTask("m", "q", 0, "a", None, "{}", keys).may_give_way is expected
