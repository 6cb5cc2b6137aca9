"""Single sends are prepared from the second one of a session on, unless the session may be somebody else's next time."""

import dramatiq
import pytest

from pipeline import PostgresBroker

PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name = 'enqueue_v1'"


@pytest.fixture
def noop(broker: PostgresBroker) -> dramatiq.Actor:
    @dramatiq.actor
    def noop(text: str = "") -> None:
        pass

    return noop


def ask(broker: PostgresBroker, question: str) -> list[tuple]:
    """Ask on the connection that sends."""
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchall() if cursor.description else []


def test_the_second_send_of_a_session_is_prepared(broker, noop, rows) -> None:
    prepared = []
    for text in ("one", "it's", "\\'); --"):
        noop.send(text)
        prepared += ask(broker, PREPARED)

    assert prepared == [(0,), (1,), (1,)]
    stored = rows("SELECT payload->'args'->>0 FROM pipeline.task ORDER BY id")
    assert stored == [("one",), ("it's",), ("\\'); --",)]


@pytest.mark.parametrize("forget", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_session_that_has_forgotten_what_was_prepared_sends_all_the_same(broker, noop, rows, forget: str) -> None:
    for _ in range(2):
        noop.send()
    ask(broker, forget)

    for _ in range(2):
        noop.send()

    assert rows("SELECT count(*) FROM pipeline.task") == [(4,)]


def test_sends_survive_that_the_schema_is_made_anew(broker, noop, rows) -> None:
    for _ in range(2):
        noop.send()
    source = rows("SELECT pg_get_functiondef('pipeline.enqueue_v1'::regproc)")[0][0]
    rows("DROP FUNCTION pipeline.enqueue_v1")
    with pytest.raises(Exception, match="enqueue_v1"):
        noop.send()
    rows(source)

    noop.send()

    assert rows("SELECT count(*) FROM pipeline.task") == [(3,)]


def test_a_pooler_that_was_announced_is_never_asked_to_prepare(broker, noop, monkeypatch) -> None:
    monkeypatch.setattr(broker.sender, "_may_prepare", False)
    for _ in range(3):
        noop.send()

    assert ask(broker, PREPARED) == [(0,)]


def test_a_pooler_that_was_not_announced_is_noticed_at_the_first_refusal(broker, noop, rows) -> None:
    """Its next statement meets a session in which nothing was prepared."""
    for _ in range(2):
        noop.send()
    ask(broker, "DEALLOCATE enqueue_v1")

    noop.send()
    noop.send()

    assert not broker.pool._idle[-1][0].has_prepared_sends
    assert rows("SELECT count(*) FROM pipeline.task") == [(4,)]
