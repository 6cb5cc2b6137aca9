"""Many messages sent at once are encoded while PostgreSQL writes: all of them are tasks, or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import dramatiq
import psycopg2
import pytest

import pipeline
from pipeline.broker.bulk import LOT
from pipeline.broker.sender import Sender
from pipeline.context import NewTask
from pipeline.errors import MessageNotEncodable
from tests.fixtures.wait import eventually

#: Some lots, and a part of one.
MANY = 5 * LOT + 7


@pytest.fixture
def noop(proxied_broker) -> dramatiq.Actor:
    @pipeline.actor
    def noop(number: int = 0) -> None: ...

    return noop


@pytest.fixture
def counts(rows):
    """Count tasks, different messages, and what waits."""
    return lambda: rows(
        "SELECT (SELECT count(*) FROM pipeline.task), (SELECT count(DISTINCT message_id) FROM pipeline.task), "
        "(SELECT count(*) FROM pipeline.ready)"
    )[0]


@pytest.mark.parametrize("many", [2 * LOT - 1, 2 * LOT, 2 * LOT + 1, MANY])
def test_all_of_them_become_tasks_in_their_order(proxied_broker, noop, rows, counts, many) -> None:
    sent = proxied_broker.send_many(noop.message(number) for number in range(many))

    assert [message.args for message in sent] == [(number,) for number in range(many)]
    assert counts() == (many, many, many)
    assert rows("SELECT payload->'args'->>0 FROM pipeline.task ORDER BY id") == [(str(n),) for n in range(many)]


def test_what_cannot_be_encoded_takes_all_the_others_back(proxied_broker, noop, counts) -> None:
    messages = [noop.message(number) for number in range(MANY)]
    messages[MANY - 3] = noop.message(object())

    with pytest.raises(MessageNotEncodable):
        proxied_broker.send_many(messages)
    assert counts() == (0, 0, 0)
    proxied_broker.send_many(messages[:-3])
    assert counts() == (MANY - 3,) * 3


def test_what_the_database_refuses_takes_all_the_others_back(proxied_broker, noop, rows, counts) -> None:
    """An id that is said to be new and is not: such an error comes of a lot in the middle."""
    known = noop.send()
    messages = [noop.message(number) for number in range(MANY)]
    new = [proxied_broker.encoded(message) for message in messages]
    new[3 * LOT].message_id = known.message_id
    proxied_broker.sender._patience_seconds = 0

    with pytest.raises((psycopg2.Error, dramatiq.errors.ConnectionError)):
        proxied_broker.sender.send_many(new)
    assert counts() == (1, 1, 1)


@pytest.mark.parametrize("statement", [b"BEGIN", b"COMMIT"])
def test_a_lost_answer_loses_and_doubles_nothing(proxy, proxied_broker, noop, counts, statement) -> None:
    """**R** The server has begun, or has even committed; nobody told us."""
    noop.send()
    proxy.lose_answer_to(statement)
    proxied_broker.send_many([noop.message(number) for number in range(MANY)])

    assert proxy.has_lost.is_set()
    assert counts() == (MANY + 1,) * 3


def test_a_connection_that_breaks_on_the_way_loses_and_doubles_nothing(proxy, proxied_broker, noop, counts) -> None:
    noop.send()
    new = [proxied_broker.encoded(noop.message(number)) for number in range(MANY)]

    def cut_on_the_way() -> Iterator[NewTask]:
        yield from new[: 4 * LOT]
        proxy.cut()
        threading.Timer(0.3, proxy.restore).start()
        yield from new[4 * LOT :]

    proxied_broker.sender.send_many(cut_on_the_way())
    assert counts() == (MANY + 1,) * 3


def test_a_server_that_falls_silent_on_the_way_is_left_and_nothing_is_half_sent(
    proxy, proxied_broker, noop, counts
) -> None:
    noop.send()
    new = [proxied_broker.encoded(noop.message(number)) for number in range(MANY)]
    proxied_broker.sender._patience_seconds = 1

    def silent_on_the_way() -> Iterator[NewTask]:
        yield from new[: 4 * LOT]
        proxy.fall_silent()
        yield from new[4 * LOT :]

    with pytest.raises(dramatiq.errors.ConnectionError):
        proxied_broker.sender.send_many(silent_on_the_way())
    proxy.cut()
    proxy.restore()
    eventually(lambda: counts() in {(1, 1, 1), (MANY + 1,) * 3})


def test_many_may_take_longer_than_the_server_has_for_an_answer(proxied_broker, noop, counts) -> None:
    noop.send()
    new = [proxied_broker.encoded(noop.message(number)) for number in range(MANY)]
    sender = Sender(proxied_broker.pool, lambda: proxied_broker.sql, proxied_broker.notifier, patience_seconds=0.3)

    def slowly() -> Iterator[NewTask]:
        for start in range(0, MANY, LOT):
            threading.Event().wait(0.2)
            yield from new[start : start + LOT]

    sender.send_many(slowly())
    assert counts() == (MANY + 1,) * 3


def test_a_message_that_comes_again_later_is_one_task_with_what_was_sent_last(proxied_broker, noop, rows) -> None:
    again = noop.message(-1)
    others = [noop.message(number) for number in range(MANY)]
    proxied_broker.send_many([again, *others, again.copy(args=(-2,))])

    assert rows("SELECT payload->'args'->>0 FROM pipeline.task WHERE message_id = %s::uuid", again.message_id) == [
        ("-2",)
    ]


def test_messages_that_give_way_say_to_whom(proxied_broker, noop, counts) -> None:
    sent = proxied_broker.send_many(
        noop.message_with_options(args=(number,), unique_key=str(number % (2 * LOT))) for number in range(3 * LOT)
    )

    assert [message.message_id for message in sent[2 * LOT :]] == [message.message_id for message in sent[:LOT]]
    assert counts() == (2 * LOT,) * 3


def test_a_lane_first_met_on_the_way_is_made(proxied_broker, noop, counts) -> None:
    options = [{} if number < 3 * LOT else {"priority": 7} for number in range(MANY)]
    proxied_broker.send_many(noop.message_with_options(args=(1,), **each) for each in options)

    assert counts() == (MANY,) * 3


def test_lanes_that_are_known_here_and_gone_there_are_made_again(proxied_broker, noop, rows, counts) -> None:
    noop.send()
    rows("WITH gone AS (DELETE FROM pipeline.ready), too AS (DELETE FROM pipeline.task) SELECT 1")
    rows("WITH gone AS (DELETE FROM pipeline.lane RETURNING 1) SELECT count(*) FROM gone")
    proxied_broker.send_many(noop.message(number) for number in range(MANY))

    assert counts() == (MANY,) * 3


def test_ids_that_somebody_else_chose_are_looked_for(proxied_broker, noop, counts) -> None:
    messages = [noop.message(number).copy(message_id=str(uuid4())) for number in range(MANY)]
    proxied_broker.send_many(messages)
    proxied_broker.send_many(messages)

    assert counts() == (MANY,) * 3
