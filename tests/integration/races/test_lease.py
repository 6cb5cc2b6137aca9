"""Races 5 and 10 through a real worker: what its hub does when it loses its lease, or could die after any commit."""

from __future__ import annotations

from collections import Counter
from itertools import count
from threading import Event, Semaphore
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.broker import hub as hub_module
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import HoldUp, Scale
from tests.integration.races.sessions import Session

ORPHANS = """
    SELECT count(*) FROM pipeline.task t
     WHERE NOT EXISTS (SELECT FROM pipeline.ready r WHERE r.id = t.id)
       AND NOT EXISTS (SELECT FROM pipeline.claim c WHERE t.id = ANY (c.ids))
       AND NOT EXISTS (SELECT FROM pipeline.attempt a WHERE a.task_id = t.id AND a.outcome IN ('s', 'f'))
"""


def test_a_run_that_ends_while_the_lease_is_lost_does_not_take_its_thread_along(
    broker: PostgresBroker, db: Session, hold_up: HoldUp
) -> None:
    """Race 5: the hub hangs in the database, the worker is declared dead, and its task ends in that very moment. The
    late outcome is dropped; the thread is free, so the worker goes on under a new identity."""
    begun, release, runs = Event(), Event(), Counter[int]()

    @dramatiq.actor
    def work(number: int) -> None:
        runs[number] += 1
        begun.set()
        assert release.wait(10)

    first = work.send(1)
    with working(broker, threads=1):
        assert begun.wait(5)
        worker = broker.hub.worker_id
        with hold_up(broker) as rescuer:
            release.set()
            eventually(broker.hub._inbox.qsize)
            assert rescuer.rescue(worker) == 1

        second = work.send(2)
        eventually(lambda: db.outcomes(second.message_id) == ["s"])
        eventually(lambda: db.outcomes(first.message_id) == ["l", "s"])
        assert broker.hub.worker_id != worker

    assert runs == {1: 2, 2: 1}


@pytest.mark.parametrize("trouble", ["many outcomes", "a bad outcome"])
def test_after_every_commit_of_the_hub_a_crash_would_lose_nothing(
    broker: PostgresBroker, db: Session, hold_up: HoldUp, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Race 10: outcomes of one claim are written in several statements. Until the last of them the claim stays, for a
    rescuer to find what is left by it."""
    begun, release = Semaphore(0), Event()
    lost: list[int] = []

    @dramatiq.actor
    def work(number: int) -> None:
        begun.release()
        assert release.wait(10)

    ended = count(1)

    def spoil(self: Any, proxy: Any) -> Any:
        if next(ended) == 4:  # the last of the batch, so that halving it takes several statements
            proxy.conclusion.extra = '{"ttl": "many"}'
        return proxy.conclusion

    if trouble == "many outcomes":
        monkeypatch.setattr(hub_module, "_BATCH", 1)
    else:
        monkeypatch.setattr(hub_module.Hub, "_conclusion_of", spoil)
    real = hub_module.Hub._call_exchange

    def watch(self: Any, *arguments: Any) -> Any:
        rows = real(self, *arguments)
        lost.append(db.value(ORPHANS))
        return rows

    monkeypatch.setattr(hub_module.Hub, "_call_exchange", watch)
    for number in range(4):
        work.send(number)
    with working(broker, threads=4):
        assert all(begun.acquire(timeout=5) for _ in range(4))
        with hold_up(broker):
            release.set()
            eventually(lambda: broker.hub._inbox.qsize() == 4)
        eventually(lambda: len(db.outcomes()) == 4)
        eventually(lambda: db.value("SELECT count(*) FROM pipeline.claim") == 0)

    assert len(lost) > 2
    assert not any(lost)
    assert sorted(db.outcomes()) == ["s"] * 4 if trouble == "many outcomes" else ["f", "s", "s", "s"]


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_stress_a_worker_whose_lease_is_taken_again_and_again_concludes_every_task_once(
    broker: PostgresBroker, db: Session, scale: Scale
) -> None:
    """Race 5 at random: while tasks flow, the worker is rescued under its own feet. Each task succeeds once, and the
    worker still uses all its threads afterwards."""
    total = 150 * scale.factor

    @dramatiq.actor
    def work(number: int) -> None:
        Event().wait(0.002)

    broker.send_many([work.message(number) for number in range(total)])
    with working(broker, threads=4):
        for _ in range(8 * scale.factor):
            before = len(db.outcomes())
            eventually(lambda before=before: len(db.outcomes()) >= min(before + scale.dice.randint(1, 15), total))
            for (worker,) in db.ask("SELECT worker_id FROM pipeline.worker WHERE state = 'a'"):
                eventually(lambda worker=worker: _rescued(db, worker))
        broker.join("default", timeout=50_000)
        eventually(lambda: not broker.hub._lost)

    succeeded = "SELECT task_id, count(*) FROM pipeline.attempt WHERE outcome IN ('s', 'f') GROUP BY 1"
    assert sorted(count for _, count in db.ask(succeeded)) == [1] * total


def _rescued(db: Session, worker: int) -> bool:
    """The hub beats on; look and rescue in one transaction as a rescuer with perfect timing would."""
    with db.connection.cursor() as cursor:
        cursor.execute(
            "SELECT pipeline.rescue_v1(worker_id, beat, 1000) FROM pipeline.worker WHERE worker_id = %s", (worker,)
        )
        found = cursor.fetchone()
    return found is not None and found[0] is not None
