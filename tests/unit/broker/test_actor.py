"""The ids that messages of our actors bring, and who may trust that they are new."""

from __future__ import annotations

import copy
import pickle
import time
from uuid import UUID

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from pipeline.broker.actor import Actor, take_new


@pytest.fixture
def noop():
    @dramatiq.actor(broker=StubBroker(middleware=[]), actor_class=Actor)
    def noop(*args, **kwargs) -> None:
        pass

    return noop


@pytest.mark.parametrize("options", [{}, {"max_retries": 3}])
def test_an_id_begins_with_its_time_and_says_so(noop, options) -> None:
    before = time.time_ns() // 1_000_000
    message = noop.message_with_options(args=(1,), kwargs={"a": 2}, **options)
    found = UUID(message.message_id)

    assert (found.version, found.variant) == (7, "specified in RFC 4122")
    assert before <= found.int >> 80 == message.message_timestamp <= time.time_ns() // 1_000_000
    assert (message.args, message.kwargs, message.options) == ((1,), {"a": 2}, options)


def test_ids_differ_within_a_millisecond(noop) -> None:
    assert len({noop.message().message_id for _ in range(10_000)}) == 10_000


def test_a_message_is_what_dramatiq_would_have_made(noop) -> None:
    message = noop.message(1, a=2)
    same = dramatiq.Message(**message.asdict())

    assert message == same
    assert message.encode() == same.encode()
    assert not hasattr(noop.message_with_options(args=[1]).args, "append")


@pytest.mark.parametrize("wrong", [{"on_success": 1}, {"on_failure": object()}])
def test_callbacks_are_checked_as_dramatiq_does(noop, wrong) -> None:
    with pytest.raises(TypeError):
        noop.message_with_options(**wrong)


def test_a_message_is_new_once(noop) -> None:
    message = noop.message()

    assert take_new(message)
    assert not take_new(message)


@pytest.mark.parametrize(
    "other",
    [
        lambda message: message.copy(),
        copy.copy,
        copy.deepcopy,
        lambda message: pickle.loads(pickle.dumps(message)),  # noqa: S301
        lambda message: dramatiq.Message.decode(message.encode()),
    ],
)
def test_what_has_its_id_from_another_is_not(noop, other) -> None:
    message = noop.message()

    assert not take_new(other(message))
