"""Race 11 and the poisonous outcome: what follows from a run follows once, and one bad row spoils no batch."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Semaphore
from typing import Any

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.broker import hub as hub_module
from pipeline.broker.outcome import Conclusion, concluded
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import HoldUp
from tests.integration.races.sessions import Outcome, Run, Session, interrupted, message, new_id

Sessions = Callable[..., Session]

orphaned = pytest.mark.leaves("claim", "worker")

#: Each makes PostgreSQL refuse the outcome for real: invalid JSON, a check, a NOT NULL, a value too large, a stack too
#: small for the nesting, a NUL that psycopg2 refuses before the server sees it.
BAD = {
    "22 text": '{"error": nonsense}',
    "22 number": '{"ttl": "many"}',
    "22 range": '{"ttl": 99999999999999999999999}',
    "23 check": '{"group": {"id": "00000000-0000-0000-0000-00000000000a", "callbacks": []}}',
    "23 not null": '{"enqueue": [{"m": null, "q": "default", "p": 0, "a": "x", "d": null, "b": {}}]}',
    "54 nesting": '{"error": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "unsendable": '{"error": "\x00"}',
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_outcome_fails_alone(
    broker: PostgresBroker, db: Session, hold_up: HoldUp, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    """R: in a batch of twelve the one outcome that PostgreSQL refuses is found by halving and recorded as a failure
    with that error; the eleven others are concluded as they were. The hub goes on."""
    db.ask("INSERT INTO pipeline.task_group VALUES ('00000000-0000-0000-0000-00000000000a', now(), 0)")
    begun, release = Semaphore(0), Event()
    written: list[int] = []

    @dramatiq.actor
    def work(number: int) -> None:
        begun.release()
        assert release.wait(10)

    def spoil(self: Any, proxy: Any) -> Conclusion:
        conclusion = proxy.conclusion or concluded(proxy, hub_module.Outcome.INTERRUPTED)
        if proxy.args == (7,):
            conclusion.extra, conclusion.has_follow = BAD[bad], True
        written.append(proxy.args[0])
        return conclusion

    monkeypatch.setattr(hub_module.Hub, "_conclusion_of", spoil)
    sent = [work.send(number) for number in range(12)]
    with working(broker, threads=12):
        assert all(begun.acquire(timeout=5) for _ in range(12))
        with hold_up(broker):
            release.set()
            eventually(lambda: broker.hub._inbox.qsize() == 12)
        eventually(lambda: len(db.outcomes()) == 12, within=10)
        monkeypatch.undo()
        after = work.send(99)
        eventually(lambda: db.outcomes(after.message_id) == ["s"])

    assert sorted(written) == list(range(12))
    assert [db.outcomes(each.message_id) for each in sent] == [["f"] if n == 7 else ["s"] for n in range(12)]
    reason, error_type = db.ask("SELECT reason, error_type FROM pipeline.attempt_history WHERE outcome = 'failed'")[0]
    assert reason == "refused"
    assert error_type


def step(worker_run: Run, name: str = "next") -> tuple[Outcome, str]:
    following = message(name)
    return Outcome(worker_run, "s", {"enqueue": [following]}), following["m"]


@orphaned
def test_the_next_step_is_there_if_and_only_if_the_outcome_is(db: Session, session: Sessions) -> None:
    """Race 11: cut off before the commit there is neither; after it both; and a replay adds nothing."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    outcome, following = step(run)
    hub = session(open_transaction=True)
    hub.exchange(worker, [outcome])
    hub.rollback()
    assert (db.outcomes(task), db.copies(following)) == ([], 0)

    for _ in range(3):
        db.exchange(worker, [outcome])

    assert db.outcomes(task) == ["s"]
    assert db.value("SELECT count(*) FROM pipeline.task WHERE message_id = %s", following) == 1
    assert db.copies(following) == 1


@orphaned
def test_a_run_that_was_lost_makes_no_next_step(db: Session) -> None:
    """Race 11: the zombie's outcome is dropped, its chain goes on from the run that counts, once."""
    db.enqueue()
    zombie, worker = db.register(), db.register()
    (lost,) = db.claim(zombie)
    db.rescue(zombie)
    (run,) = db.claim(worker)
    outcome, following = step(run)

    assert not db.conclude(zombie, lost, "s", outcome.extra)  # type: ignore[arg-type]
    assert db.copies(following) == 0
    db.exchange(worker, [outcome])
    assert db.copies(following) == 1


@orphaned
@pytest.mark.parametrize("mate", ["the same task", "a neighbour"])
@pytest.mark.parametrize("what", ["next run", "next step", "group count"])
def test_what_follows_from_a_concluded_run_does_not_follow_from_its_batch(db: Session, what: str, mate: str) -> None:
    """R: a batch holds the late outcome of a run that is concluded and a fresh one, of the same task or of another:
    only what belongs to the fresh one happens."""
    task, neighbour, worker = db.enqueue(), db.enqueue(), db.register()
    first, second = db.claim(worker, 2)
    db.exchange(worker, [interrupted(first)])
    (again,) = db.claim(worker)
    group_id = new_id()
    db.ask("SELECT pipeline.create_group_v1(%s, 2)", group_id)
    following = message("next")
    extras = {
        "next run": {"delay": 0},
        "next step": {"enqueue": [following]},
        "group count": {"group": {"id": group_id, "callbacks": []}},
    }

    fresh = Outcome(again if mate == "the same task" else second)
    db.exchange(worker, [Outcome(first, "s", extras[what]), fresh])

    assert db.outcomes(task if mate == "the same task" else neighbour)[-1] == "s"
    assert db.waiting() == db.copies(following["m"]) == 0
    assert db.value("SELECT remaining FROM pipeline.task_group") == 2
