import json
from dataclasses import replace
from uuid import uuid4

import dramatiq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.messages import as_json, decode, encode, encode_json, whole_ms
from pipeline.context import NewTask
from pipeline.errors import MessageNotEncodable, MessageTooLarge

LIMIT = 10_000

TEXT_POSTGRESQL_TAKES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT_POSTGRESQL_TAKES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT_POSTGRESQL_TAKES, inner, max_size=4),
    max_leaves=8,
)


def message(*args, **fields) -> dramatiq.Message:
    standard = {
        "queue_name": "q",
        "actor_name": "a",
        "args": args,
        "kwargs": {},
        "options": {},
        "message_id": str(uuid4()),
    }
    return dramatiq.Message(**(standard | fields))


def task(message_id: str, payload: str = "{}") -> NewTask:
    return NewTask(message_id, "q", 0, "a", None, payload)


@given(JSON)
def test_what_is_encoded_is_decoded_as_it_was(value) -> None:
    new = encode(message(value, kwargs={"k": value}, options={"o": value}), 0, None, 10**9)
    back = decode(new.message_id, new.queue, new.actor, new.payload, None)

    assert (back.args, back.kwargs, back.options) == ((value,), {"k": value}, {"o": value})


@given(JSON, st.sampled_from(["\0", "\ud800", "\udfff", "x\0\\u0000"]))
def test_a_character_that_postgresql_refuses_is_found_anywhere(value, bad) -> None:
    for hidden in ([value, bad], {bad: value}, {"a": [{"b": bad}]}):
        with pytest.raises(MessageNotEncodable):
            encode_json(hidden, what="It", limit_bytes=10**9)


@given(st.text(alphabet="\\u0dD8aANnIfity", max_size=12))
def test_text_that_looks_like_an_escape_is_no_escape(text) -> None:
    assert json.loads(encode_json(text, what="It", limit_bytes=LIMIT)) == text


def test_the_priority_of_a_message_counts_more_than_the_given_one() -> None:
    assert encode(message(), 5, None, LIMIT).priority == 5
    assert encode(message(options={"priority": 3}), 5, None, LIMIT).priority == 3


def test_a_message_id_is_written_as_postgresql_writes_it() -> None:
    spelled = "{6BA7B810-9DAD-11D1-80B4-00C04FD430C8}"

    assert encode(message(message_id=spelled), 0, None, LIMIT).message_id == spelled.strip("{}").lower()


@pytest.mark.parametrize(("delay", "whole"), [(1.5, 2), (0.4, 0), (-3, -3), (10, 10)])
def test_a_delay_becomes_whole_milliseconds(delay, whole) -> None:
    assert whole_ms(delay) == whole


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), "5", object(), [1]])
def test_a_delay_that_is_no_number_is_refused(delay) -> None:
    with pytest.raises(MessageNotEncodable, match="delay"):
        whole_ms(delay)


def test_what_is_too_large_says_how_large_and_what_the_limit_is() -> None:
    with pytest.raises(MessageTooLarge, match="The result has 102 bytes.*limit.* is 100") as caught:
        encode_json("x" * 100, what="The result", limit_bytes=100)
    assert (caught.value.size, caught.value.limit) == (102, 100)


def test_a_batch_is_what_its_tasks_are() -> None:
    ids = [str(uuid4()) for _ in range(2)]
    new = [NewTask(ids[0], 'q"1', 3, "ä\\", 50, '{"args":[1]}'), NewTask(ids[1], "q2", 0, "b", None, "{}")]

    assert json.loads(as_json(new)) == [
        {"m": ids[0], "q": 'q"1', "p": 3, "a": "ä\\", "d": 50, "b": {"args": [1]}},
        {"m": ids[1], "q": "q2", "p": 0, "a": "b", "d": None, "b": {}},
    ]


def test_a_batch_says_labels_and_parents_of_those_that_have_any() -> None:
    new = [task(str(uuid4())), replace(task(str(uuid4())), labels='{"entity":"a:1"}', parent=7)]
    plain, labelled = json.loads(as_json(new))

    assert plain.keys() == {"m", "q", "p", "a", "d", "b"}
    assert (labelled["l"], labelled["f"]) == ({"entity": "a:1"}, 7)


def test_a_message_twice_in_a_batch_stands_there_once_as_it_came_last() -> None:
    one, two = str(uuid4()), str(uuid4())

    written = json.loads(as_json([task(one, '{"args":[1]}'), task(two), task(one, '{"args":[2]}')]))

    assert [(each["m"], each["b"]) for each in written] == [(one, {"args": [2]}), (two, {})]


def test_an_empty_batch_is_an_empty_list() -> None:
    assert as_json([]) == "[]"


def test_missing_fields_of_a_payload_are_empty() -> None:
    back = decode(str(uuid4()), "q", "a", "{}", None)

    assert (back.args, back.kwargs, back.options, back.message_timestamp) == ((), {}, {}, 0)


def test_a_patch_changes_options() -> None:
    back = decode(str(uuid4()), "q", "a", '{"options": {"retries": 1, "kept": 2}}', '{"retries": 2, "new": 3}')

    assert back.options == {"retries": 2, "kept": 2, "new": 3}


@pytest.mark.parametrize(
    "payload",
    [
        "[]",
        '"x"',
        "5",
        '{"args": 5}',
        '{"args": {}, "kwargs": {}}',
        '{"args": "ab"}',
        '{"kwargs": []}',
        '{"options": "x"}',
    ],
)
def test_a_payload_of_another_shape_is_an_error(payload) -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        decode(str(uuid4()), "q", "a", payload, None)


@pytest.mark.parametrize("throws", ['"ValueError"', '["ValueError"]', '{"a": 1}'])
def test_a_throws_that_can_be_no_class_is_left_out(throws) -> None:
    assert decode(str(uuid4()), "q", "a", f'{{"options": {{"throws": {throws}}}}}', None).options == {}
