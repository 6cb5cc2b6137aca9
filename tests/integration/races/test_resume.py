"""Race 8: the connection is lost after the server's commit and before its reply, or before the statement arrived."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.proxy import Proxy, exchange, relaying
from tests.integration.races.sessions import Session

Sessions = Callable[..., Session]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with relaying(database_url) as running:
        yield running


@pytest.fixture
def relayed(proxy: Proxy) -> Iterator[PostgresBroker]:
    """A broker all of whose connections go through the proxy."""
    with global_broker(PostgresBroker(settings=Settings(database_url=proxy.url, **QUICK))) as made:
        yield made


class Gate:
    """An actor's body that says when it began, counts, and waits to be let through."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, number: int = 0) -> None:
        self.runs[number] += 1
        self.begun.release()
        assert self.open.wait(10)


@pytest.fixture
def gate(relayed: PostgresBroker) -> Iterator[tuple[Gate, dramatiq.Actor]]:
    gate = Gate()
    yield gate, dramatiq.actor(gate.__call__, actor_name="gated", max_retries=0)
    gate.open.set()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_outcomes_on_a_lost_connection_are_written_once_and_nothing_runs_again(
    db: Session, relayed: PostgresBroker, proxy: Proxy, gate: tuple[Gate, dramatiq.Actor], moment: str
) -> None:
    """Outcomes only. Not arrived: they are replayed, and resume leaves their claim alone, although all its runs have
    ended. Committed: the replay meets the fence."""
    body, actor = gate
    sent = [actor.send(number) for number in range(2)]
    with working(relayed, threads=2):
        assert body.begun.acquire(timeout=5)
        assert body.begun.acquire(timeout=5)
        cut = proxy.cut_before if moment == "before" else proxy.cut_after
        trap = cut(exchange(outcomes=True))
        body.open.set()
        assert trap.was_cut.wait(5)
        eventually(lambda: db.outcomes() == ["s", "s"])
        eventually(lambda: db.value("SELECT count(*) FROM pipeline.claim") == 0)

    assert body.runs == {0: 1, 1: 1}
    assert [db.outcomes(each.message_id) for each in sent] == [["s"], ["s"]]


def test_a_claim_whose_reply_was_lost_comes_back_once(
    db: Session, relayed: PostgresBroker, proxy: Proxy, gate: tuple[Gate, dramatiq.Actor]
) -> None:
    """Claims only: nobody knows of the claim. Resume gives its runs back, uncounted; no claim is left without owner."""
    body, actor = gate
    body.open.set()
    with working(relayed):
        trap = proxy.cut_after(exchange(outcomes=False, claims=True), b"gated")
        sent = actor.send(7)
        assert trap.was_cut.wait(5)
        eventually(lambda: db.outcomes(sent.message_id) == ["i", "s"])
        eventually(lambda: db.value("SELECT count(*) FROM pipeline.claim") == 0)

    assert body.runs == {7: 1}
    assert db.value("SELECT max(attempt) FROM pipeline.attempt") == 1


def test_an_exchange_of_both_whose_reply_was_lost_keeps_the_outcome_and_returns_the_claim(
    db: Session, relayed: PostgresBroker, proxy: Proxy, gate: tuple[Gate, dramatiq.Actor]
) -> None:
    """Outcomes and claims in one lost reply: the replayed outcome is dropped, the unknown claim comes back."""
    body, actor = gate
    with working(relayed, threads=1):
        first = actor.send(1)
        assert body.begun.acquire(timeout=5)
        second = actor.send(2)
        trap = proxy.cut_after(exchange(outcomes=True, claims=True), b"gated")
        body.open.set()
        assert trap.was_cut.wait(5)
        eventually(lambda: db.outcomes(second.message_id) == ["i", "s"])
        eventually(lambda: db.value("SELECT count(*) FROM pipeline.claim") == 0)

    assert body.runs == {1: 1, 2: 1}
    assert db.outcomes(first.message_id) == ["s"]


@pytest.mark.parametrize("how", ["send", "send_many"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_send_on_a_lost_connection_is_neither_lost_nor_doubled(
    db: Session, relayed: PostgresBroker, proxy: Proxy, gate: tuple[Gate, dramatiq.Actor], how: str, moment: str
) -> None:
    """The sender tries again with the same id, and looks first whether the original was there."""
    _, actor = gate
    actor.send(0)  # lanes are known, connections open
    trap = (proxy.cut_before if moment == "before" else proxy.cut_after)(b"enqueue_")
    sent = actor.send(1) if how == "send" else relayed.send_many([actor.message(1), actor.message(2)])[0]
    assert trap.was_cut.is_set()

    assert db.copies(sent.message_id) == 1
    assert db.value("SELECT count(*) FROM pipeline.task") == db.waiting() == (2 if how == "send" else 3)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_cuts_at_random_lose_nothing_and_conclude_each_task_once(
    db: Session, relayed: PostgresBroker, proxy: Proxy, scale: Scale
) -> None:
    """Race 8 at random: sends and exchanges are cut before and after, while tasks flow."""
    runs: Counter[int] = Counter()

    @dramatiq.actor
    def count(number: int) -> None:
        runs[number] += 1

    total = 150 * scale.factor
    with working(relayed, threads=4):
        for number in range(total):
            if number % 10 == 0:
                cut = scale.dice.choice([proxy.cut_before, proxy.cut_after])
                cut(scale.dice.choice([exchange(outcomes=True), exchange(claims=True), b"enqueue_v1"]))
            count.send(number)
        relayed.join("default", timeout=50_000)

    assert runs == dict.fromkeys(range(total), 1)
    assert db.value("SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'") == total
    assert db.value("SELECT count(*) FROM pipeline.attempt WHERE outcome NOT IN ('s', 'i')") == 0
