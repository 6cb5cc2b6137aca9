"""By what a message may want to be found."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Message, pipeline

from pipeline import MessageNotEncodable, PostgresBroker, actor
from pipeline.broker.labels import as_options, labels_of, wrong
from pipeline.broker.messages import encode
from pipeline.context import CurrentTask
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker


def message(*args: Any, **options: Any) -> Message:
    return Message("q", "a", args, {}, options)


def labels(
    *args: Any, declared: Any = None, keys: Any = None, inherited: str | None = None, **options: Any
) -> dict[str, Any] | None:
    return labels_of(message(*args, **options), declared or {}, keys or {}, inherited)


# --- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"retries": 1}, {"tags": []}, {"tags": set()}, {"tags": None, "entity": None, "correlation_id": None}],
)
def test_a_message_without_a_label_has_none(options: dict[str, Any]) -> None:
    assert labels(**options) is None


@pytest.mark.parametrize("tags", [["b", "a", "b"], ("a", "b"), {"a", "b"}, frozenset("ab")])
def test_tags_are_in_order_and_there_once(tags: Any) -> None:
    assert labels(tags=tags) == {"tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ("invoice:4711", "invoice:4711"),
        ("a:b:c", "a:b:c"),
        (("invoice", 4711), "invoice:4711"),
        (["invoice", "R 1:2"], "invoice:R 1:2"),
        (("file", UUID(int=1)), "file:00000000-0000-0000-0000-000000000001"),
        ("k:" + "x" * 198, "k:" + "x" * 198),
    ],
)
def test_an_entity_is_a_text_of_its_kind_and_its_id(entity: Any, text: str) -> None:
    assert labels(entity=entity) == {"entity": text}


def test_the_tenant_is_the_one_among_the_keys() -> None:
    assert labels(keys={"tenant": "north", "on_conflict": "skip"}) == {"tenant": "north"}


def test_up_to_20_tags_of_100_bytes_are_taken() -> None:
    assert labels(tags=["ü" * 50, *map(str, range(19))])["tags"][-1] == "ü" * 50


# --- what is refused --------------------------------------------------------------------------------------------------

NO_TEXT = ["", "x" * 201, "ü" * 101, 7, b"a", "a\0b", "\ud800", {"a": 1}]


@pytest.mark.parametrize(
    "tags", ["urgent", 7, {"a": 1}, b"x", *([text] for text in NO_TEXT), ["x" * 101], [None], [["a"]]]
)
def test_what_are_no_tags_is_refused(tags: Any) -> None:
    with pytest.raises(MessageNotEncodable, match="The message for a: .*tag"):
        labels(tags=tags)


def test_more_than_20_tags_are_refused_also_together_with_the_actors() -> None:
    many = [str(number) for number in range(20)]
    with pytest.raises(MessageNotEncodable, match="there are 21 tags; 20 are allowed"):
        labels(tags=[*many, "x"])
    with pytest.raises(MessageNotEncodable, match="there are 21 tags; 20 are allowed"):
        labels(tags=many, declared={"tags": ["x"]})


@pytest.mark.parametrize(
    "entity",
    [
        *(
            "invoice",
            "invoice:",
            ":4711",
            "",
            4711,
            True,
            {"invoice": 4711},
            b"a:b",
            "a:\0",
            "a:\ud800",
            "k:" + "x" * 199,
        ),
        *((), ("invoice",), ("invoice", 1, 2), ("", 1), ("invoice", ""), ("invoice", None), ("invoice", True)),
        *((1, "invoice"), ("in:voice", 1), ("invoice", 1.5), ("invoice", "x" * 200), ("invoice", ["a"])),
    ],
)
def test_what_is_no_entity_is_refused(entity: Any) -> None:
    with pytest.raises(MessageNotEncodable, match="The message for a: the entity"):
        labels(entity=entity)


@pytest.mark.parametrize("correlation_id", NO_TEXT)
def test_what_is_no_correlation_id_is_refused(correlation_id: Any) -> None:
    with pytest.raises(MessageNotEncodable, match="The message for a: the correlation_id"):
        labels(correlation_id=correlation_id)


# --- what an actor is declared with -----------------------------------------------------------------------------------


def test_a_message_has_its_own_tags_and_its_actors() -> None:
    declared = {"tags": ("billing",)}

    assert labels(declared=declared) == {"tags": ["billing"]}
    assert labels(declared=declared, tags=["urgent"]) == {"tags": ["billing", "urgent"]}
    assert labels(declared=declared, tags=None) is None


def test_a_messages_own_entity_counts_more_than_its_actors() -> None:
    declared = {"entity": lambda number: ("invoice", number)}

    assert labels(1, declared=declared) == {"entity": "invoice:1"}
    assert labels(1, declared=declared, entity="order:2") == {"entity": "order:2"}
    assert labels(1, declared=declared, entity=None) is None
    assert labels(declared={"entity": "system:mail"}) == {"entity": "system:mail"}
    assert labels(1, declared={"entity": lambda number: None}) is None


def test_an_entity_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(
        MessageNotEncodable, match="The message for a: the entity cannot be made of its arguments: Type"
    ):
        labels(1, 2, declared={"entity": lambda number: ("invoice", number)})
    with pytest.raises(MessageNotEncodable, match="the entity is a int, not a text"):
        labels(1, declared={"entity": lambda number: number})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tags": "billing"}, "tags is a str"),
        ({"tags": lambda: ["a"]}, "tags is a function"),
        ({"tags": [""]}, "the tag has 0 bytes"),
        ({"entity": "billing"}, "the entity has the form"),
        ({"entity": 7}, "the entity is a int, not a text"),
    ],
)
def test_an_actor_with_a_wrong_label_is_not_declared(options: dict[str, Any], complaint: str) -> None:
    assert complaint in (wrong(options) or "")
    with (
        global_broker(PostgresBroker(settings=Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))),
        pytest.raises(ConfigurationError, match=f"The actor bill: {complaint}"),
    ):
        actor(lambda: None, actor_name="bill", **options)


@pytest.mark.parametrize("options", [{}, {"tags": None}, {"tags": ["a"], "entity": ("a", 1)}, {"entity": len}])
def test_there_is_nothing_wrong_with_a_right_one(options: dict[str, Any]) -> None:
    assert wrong(options) is None


# --- what is inherited ------------------------------------------------------------------------------------------------


def test_a_correlation_id_is_inherited_unless_the_message_says_otherwise() -> None:
    assert labels(inherited="c1") == {"correlation_id": "c1"}
    assert labels(inherited="c1", correlation_id="c2") == {"correlation_id": "c2"}
    assert labels(inherited="c1", correlation_id=None) is None


@pytest.mark.parametrize("junk", NO_TEXT)
def test_what_another_system_calls_a_correlation_id_is_not_inherited(junk: Any) -> None:
    assert labels(inherited=junk) is None


def running(**options: Any) -> CurrentTask:
    engine: Any = None
    return CurrentTask("t", 1, 1, "a", "q", False, engine, None, options, 17, 1)


def test_a_running_task_is_the_parent_of_what_it_sends() -> None:
    new = encode(message(), 0, None, 1000, sent_by=running())

    assert (new.parent, new.labels) == (17, None)


def test_an_inherited_correlation_id_is_handed_on() -> None:
    """It stands in the options, where the next run finds it."""
    sent = message(1)
    new = encode(sent, 0, None, 1000, sent_by=running(correlation_id="c1"))

    assert json.loads(new.labels or "") == {"correlation_id": "c1"}
    assert json.loads(new.payload)["options"] == {"correlation_id": "c1"}
    assert sent.options == {}
    assert running(**json.loads(new.payload)["options"]).correlation_id == "c1"


# --- what is written --------------------------------------------------------------------------------------------------


def test_options_are_written_as_json_can_hold_them() -> None:
    options = {"tags": {"a"}, "entity": ("invoice", 1), "retries": 1}

    assert as_options(options, labels(**options)) == {"tags": ["a"], "entity": "invoice:1", "retries": 1}
    assert as_options({"tags": set()}, None) == {"tags": []}


def test_what_an_actor_is_declared_with_does_not_stand_in_its_messages() -> None:
    new = encode(message(1), 0, None, 1000, {"tags": ["a"], "entity": lambda number: ("b", number)})

    assert json.loads(new.labels or "") == {"tags": ["a"], "entity": "b:1"}
    assert json.loads(new.payload)["options"] == {}


def test_the_steps_of_a_chain_may_have_sets_and_pairs() -> None:
    with global_broker(PostgresBroker(settings=Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))):

        @actor
        def step() -> None: ...

        steps = [step.message_with_options(tags={"a"}, entity=("b", number)) for number in range(3)]
        new = encode(pipeline(steps).messages[0], 0, None, 10_000)

    assert json.loads(new.payload)["options"]["pipe_target"]["options"]["tags"] == ["a"]
