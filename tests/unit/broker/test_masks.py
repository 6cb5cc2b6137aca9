"""What an actor wants to be shown to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import PostgresBroker, actor
from pipeline.broker.masks import masked_names, wrong
from pipeline.broker.messages import encode
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker


@pytest.fixture
def broker() -> Iterator[PostgresBroker]:
    """A broker without a database."""
    with global_broker(PostgresBroker(settings=Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))) as made:
        yield made


@pytest.mark.parametrize(
    "names", [("iban", "PIN"), ["PIN", "iban", "iban"], {"iban", "PIN"}, frozenset({"pin", "IBAN"})]
)
def test_names_are_compared_in_small_letters(names: Any) -> None:
    assert wrong({"masked": names}) is None
    assert masked_names({"masked": names}) == ["iban", "pin"]


@pytest.mark.parametrize("options", [{}, {"masked": None}, {"masked": ()}])
def test_an_actor_that_masks_nothing_may_say_so(options: dict[str, Any]) -> None:
    assert (wrong(options), masked_names(options)) == (None, [])


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ("iban", r"masked is a text, not a tuple of names; \('iban',\) is one"),
        (7, "masked is a int, not a tuple of names"),
        ({"iban": True}, "masked is a dict, not a tuple of names"),
        (len, "masked is a builtin_function_or_method, not a tuple of names"),
        ([str(number) for number in range(101)], "masked has 101 names; 100 are allowed"),
        (("iban", 7), "the masked name is a int, not a text"),
        (("",), "the masked name has 0 bytes; 1 to 200 are allowed"),
        (("ä" * 101,), "the masked name has 202 bytes; 1 to 200 are allowed"),
        (("a\0",), "the masked name holds a NUL character"),
        (("\ud800",), "the masked name holds half of a surrogate pair"),
        (("iban ",), "the masked name 'iban ' has blanks around it, so that it would be nobody's"),
    ],
)
def test_an_actor_with_wrong_names_is_not_declared(broker: PostgresBroker, names: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The actor pay: {complaint}"):
        actor(lambda iban: None, actor_name="pay", masked=names)
    assert "pay" not in broker.actors


def test_a_name_need_not_be_a_parameters(broker: PostgresBroker) -> None:
    """A result has fields, too."""
    pay = actor(lambda order: None, actor_name="pay", masked=("iban",))

    assert masked_names(pay.options) == ["iban"]


def test_nothing_of_it_is_in_messages(broker: PostgresBroker) -> None:
    pay = actor(lambda iban: None, actor_name="pay", masked=("iban",))
    plain, optioned = pay.message("DE1"), pay.message_with_options(args=("DE1",), max_retries=1)

    for message, options in ((plain, {}), (optioned, {"max_retries": 1})):
        assert message.options == options
        assert "masked" not in encode(message, 0, None, 10_000, pay.options).payload
