"""What an actor tells of what it is called with, wherever it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from pipeline.broker.by_name import Letter, wrong_arguments
from pipeline.broker.signatures import announcement, description_of, parameters_of


class Broken:
    """Somebody's class."""

    def __repr__(self) -> str:
        raise RuntimeError


def pay(order: int, /, iban: str, *more: Any, reason: str | None = None, **fields: Any) -> None:
    """Pay an order."""


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    broker = StubBroker()
    broker.actor_options.add("masked")
    yield broker
    broker.close()


def told(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    parameters = parameters_of(function)
    assert parameters is not None
    return [(each.name, each.kind, each.annotation, each.is_required, each.default) for each in parameters]


def test_parameters_are_told_in_their_order() -> None:
    assert told(pay) == [
        ("order", "positional_only", "int", True, None),
        ("iban", "positional_or_keyword", "str", True, None),
        ("more", "var_positional", "Any", False, None),
        ("reason", "keyword_only", "str | None", False, "None"),
        ("fields", "var_keyword", "Any", False, None),
    ]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (Broken, f"{__name__}.Broken"),
        (list[int], "list[int]"),
        (int | None, "int | None"),
        (Literal["a"], "Literal['a']"),
        ("Order", "Order"),
        (Broken(), "<Broken instance>"),
    ],
)
def test_a_type_is_told_as_it_is_written(annotation: Any, text: str) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = annotation

    assert told(function) == [("value", "positional_or_keyword", text, True, None)]


@pytest.mark.parametrize(
    ("default", "text"),
    [
        ("a", "'a'"),
        ("\0\ud800", r"'\x00\ud800'"),
        (object(), "<object object>"),
        (Broken(), "<Broken instance>"),
        ({"b", "e", "a", "d", "c"}, "{'a', 'b', 'c', 'd', 'e'}"),
    ],
)
def test_a_default_is_told_in_words_that_every_process_has(default: Any, text: str) -> None:
    def function(value: Any = default) -> None: ...

    assert told(function) == [("value", "positional_or_keyword", "Any", False, text)]


@pytest.mark.parametrize("large", ["x" * 10**6, ["x"] * 10**6, {each: each for each in range(10**5)}])
def test_a_large_default_is_cut(large: Any) -> None:
    def function(value: Any = large) -> None: ...

    ((_, _, _, _, default),) = told(function)
    assert len(default) <= 200


def test_of_what_has_no_signature_nothing_is_told() -> None:
    assert parameters_of(dict.update) is None


def test_a_class_is_called_with_what_it_performs_with(broker: StubBroker) -> None:
    class Pay(dramatiq.GenericActor):
        """Pay an order."""

        class Meta:
            broker: Any

        Meta.broker = broker

        def perform(self, iban: str) -> None: ...

    ((name, *_),) = told(broker.actors["Pay"].fn)
    assert (name, description_of(broker.actors["Pay"].fn)) == ("iban", "Pay an order.")
    complaint = wrong_arguments(broker, Letter("Pay", ["DE1", "DE2"]))  # type: ignore[arg-type]
    assert complaint == "too many positional arguments"


def test_a_coroutine_is_told_as_any_function(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker)
    async def pay(iban: str) -> None:
        """Pay an order."""

    ((name, *_),) = told(pay.fn)
    assert (name, description_of(pay.fn)) == ("iban", "Pay an order.")


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        (None, None),
        ("", None),
        ("Pay.\n\n        Twice is once.\n    ", "Pay.\n\nTwice is once."),
        ("x" * 3000, "x" * 2000),
        ("a\0b\ud800", "a\N{REPLACEMENT CHARACTER}b?"),
    ],
)
def test_a_description_is_the_beginning_of_a_docstring_that_can_be_stored(
    docstring: str | None, text: str | None
) -> None:
    def function() -> None: ...

    function.__doc__ = docstring

    assert description_of(function) == text


def test_what_is_announced_is_json_with_masked_names(broker: StubBroker) -> None:
    declared = dramatiq.actor(pay, broker=broker, masked=("IBAN",))

    told = announcement(declared)

    assert (told["description"], told["masked"]) == ("Pay an order.", ["iban"])
    assert told["parameters"][0] == {
        "name": "order",
        "kind": "positional_only",
        "annotation": "int",
        "is_required": True,
        "default": None,
    }
