"""A claim is what a task has while it is neither waiting nor concluded; it must not end before its last outcome."""

import threading
from collections import Counter
from threading import Event
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

WATCH = """
CREATE TABLE public.broken (id bigint, run int);
CREATE FUNCTION watch_claims() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.broken
    SELECT u.id, u.run FROM unnest(OLD.ids, OLD.runs) AS u(id, run)
     WHERE NOT EXISTS (SELECT 1 FROM pipeline.attempt a WHERE a.task_id = u.id AND a.run = u.run);
    RETURN OLD;
END $$;
CREATE TRIGGER watch AFTER DELETE ON pipeline.claim FOR EACH ROW EXECUTE FUNCTION watch_claims();
"""


def test_a_claim_outlives_outcomes_that_are_not_written_yet(broker: PostgresBroker, rows, monkeypatch) -> None:
    """Else a crash between two batches of outcomes would lose tasks that are in neither table."""
    monkeypatch.setattr("pipeline.broker.hub._BATCH", 1)
    rows(WATCH)
    together = threading.Barrier(4)

    @dramatiq.actor
    def meet() -> None:
        together.wait(5)

    broker.send_many([meet.message() for _ in range(12)])

    with working(broker, threads=4):
        broker.join("default", timeout=20_000)

    assert rows("SELECT * FROM public.broken") == []


@pytest.mark.parametrize("poison", ["first", "last"])
def test_a_claim_outlives_a_batch_that_is_halved(broker: PostgresBroker, rows, poison: str) -> None:
    """An outcome that PostgreSQL refuses is found by halving; the others' claim must not go with the first half."""
    rows(WATCH)
    rows("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.outcome = 's' AND NEW.result::text = '"poison"' THEN RAISE EXCEPTION SQLSTATE '23514'; END IF;
            RETURN NEW;
        END $$""")
    rows("CREATE TRIGGER refuse BEFORE INSERT ON pipeline.attempt FOR EACH ROW EXECUTE FUNCTION refuse()")
    together = threading.Barrier(4)

    @dramatiq.actor
    def answer(text: str) -> str:
        together.wait(5)
        return text

    texts = ["fine"] * 4
    texts[0 if poison == "first" else -1] = "poison"
    broker.send_many([answer.message(text) for text in texts])

    with working(broker, threads=4):
        broker.join("default", timeout=20_000)

    assert rows("SELECT * FROM public.broken") == []
    assert rows("SELECT state, count(*) FROM pipeline.task_status GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("succeeded", 3),
    ]


def test_what_ends_during_a_long_exchange_is_no_stall(broker, rows, monkeypatch) -> None:
    """A full scan under a pinned horizon takes 0.2 s. Tasks given back after it would lie below the floors of the others."""
    long_exchange, judged, ended = Event(), Event(), Counter[int]()

    @dramatiq.actor
    def work(number: int) -> None:
        if number >= 20:
            assert (long_exchange if number < 40 else judged).wait(10)
        ended[number] += 1

    with working(broker, threads=4):
        hub = broker.hub
        hub._pace._prefetch, hub._pace._mean_seconds = 64, 0.0001
        real, turns = hub._identity.exchange, iter(range(10_000))

        def exchange(arguments: dict[str, Any]) -> list[Any]:
            turn = next(turns) if arguments["ids"] != "{}" else None
            if turn == 0:
                long_exchange.set()
                eventually(lambda: len(ended) == 40)
                broker.send_many(work.message(number) for number in range(40, 60))
                Event().wait(0.15)
            elif turn == 1:
                judged.set()
            return real(arguments)

        monkeypatch.setattr(hub._identity, "exchange", exchange)
        broker.send_many(work.message(number) for number in range(40))
        eventually(lambda: len(ended) == 60)

    assert rows("SELECT DISTINCT outcome FROM pipeline.attempt_history") == [("succeeded",)]
