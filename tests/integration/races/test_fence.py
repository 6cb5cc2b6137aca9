"""Races 5, 6 and 7 at the level of SQL: a run is concluded once, whoever comes late."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier

import psycopg2
import pytest
from psycopg2 import errors

from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Session, message, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]


def test_an_outcome_after_the_rescue_is_dropped_and_one_copy_is_left(db: Session) -> None:
    """Race 5, R the fence is (task_id, run): the zombie's exchange is refused as a whole, its task waits once."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    assert db.rescue(worker) == 1

    with pytest.raises(psycopg2.Error, match="lost its lease"):
        db.exchange(worker, [Outcome(run)], done=[run.claim], want=5)

    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1


@pytest.mark.parametrize("late", ["s", "r", "f", "i"])
def test_a_late_conclusion_of_a_concluded_run_changes_nothing(db: Session, late: str) -> None:
    """Race 5, R: the transactional zombie has no lease to lose, only the fence stops it; nothing follows."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.rescue(worker)

    follow = {"delay": 0} if late in "ri" else {"enqueue": [message("next")]}
    assert db.conclude(worker, run, late, follow) is False

    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1
    assert db.waiting() == 1


def test_a_rescue_after_the_outcome_loses_nothing(db: Session) -> None:
    """Race 6, outcome first: the claim is still there, but its run is over."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)])

    assert db.rescue(worker) == 0

    assert db.outcomes(task) == ["s"]
    assert db.copies(task) == 0


def test_a_rescue_does_not_pass_by_an_exchange_at_work(db: Session, session: Sessions) -> None:
    """Race 6: the exchange has written and not committed; the rescue gives up in time, and later finds nothing lost."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    hub = session(open_transaction=True)
    hub.exchange(worker, [Outcome(run)])

    with pytest.raises(errors.LockNotAvailable):
        db.rescue(worker)

    hub.commit()
    assert db.rescue(worker) == 0
    assert db.outcomes(task) == ["s"]


def test_an_exchange_waits_for_a_rescue_at_work_and_is_refused(db: Session, session: Sessions) -> None:
    """Race 6, the other order, outcomes: R the rescue holds the worker FOR UPDATE, the exchange asks for KEY SHARE."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    rescuer, hub = session(open_transaction=True), session()
    assert rescuer.rescue(worker) == 1

    late = hub.start(hub.exchange, worker, [Outcome(run)])
    waits_for_a_lock(db, hub)
    rescuer.commit()

    assert sqlstate(late.exception(5)) == "PQ002"
    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1


def test_an_outcome_goes_through_if_the_rescue_at_work_rolls_back(db: Session, session: Sessions) -> None:
    """Race 6: a rescue that was undone took nothing."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    rescuer, hub = session(open_transaction=True), session()
    rescuer.rescue(worker)
    late = hub.start(hub.exchange, worker, [Outcome(run)], done=[run.claim])
    waits_for_a_lock(db, hub)

    rescuer.rollback()

    late.result(5)
    assert db.outcomes(task) == ["s"]
    assert db.copies(task) == 0


def test_of_two_rescues_one_takes_and_the_other_leaves(db: Session, session: Sessions) -> None:
    """Race 7: two rescuers that saw the same beat."""
    task, worker = db.enqueue(), db.register()
    db.claim(worker)
    first, second = session(open_transaction=True), session()
    assert first.rescue(worker) == 1

    other = second.start(second.rescue, worker, beat=0)
    waits_for_a_lock(db, second)
    first.commit()

    assert sqlstate(other.exception(5)) in {None, "55P03"}  # on a slow machine the 100 ms are over
    assert second.rescue(worker, beat=0) is None
    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1


def test_a_worker_that_beat_meanwhile_is_not_rescued(db: Session, session: Sessions) -> None:
    """Race 7: the rescue names the beat that was seen to stand still, also if the new one is about to be committed."""
    task, worker = db.enqueue(), db.register()
    db.claim(worker)
    hub, rescuer = session(open_transaction=True), session()
    assert hub.beat(worker)

    rescue = rescuer.start(rescuer.rescue, worker, beat=0)
    waits_for_a_lock(db, rescuer)
    hub.commit()

    assert sqlstate(rescue.exception(5)) in {None, "55P03"}  # on a slow machine the 100 ms are over
    assert db.outcomes(task) == []
    assert db.rescue(worker, beat=0) is None


def test_a_stopped_transaction_between_fence_and_commit_makes_the_rescue_give_up_in_100_ms(
    db: Session, session: Sessions
) -> None:
    """R: the process holds the key of its fence row; the rescue must not wait for it, and leaves no trace."""
    tasks = [db.enqueue(), db.enqueue()]
    worker = db.register()
    run, _ = db.claim(worker, 2)
    stopped = session(open_transaction=True)
    assert stopped.conclude(worker, run)

    db.ask("SET statement_timeout = '3s'")
    with pytest.raises(errors.LockNotAvailable):
        db.rescue(worker)

    assert db.value("SELECT state FROM pipeline.worker WHERE worker_id = %s", worker) == "a"
    assert db.outcomes() == []
    stopped.commit()
    assert db.rescue(worker) == 1
    assert [db.outcomes(task) for task in tasks] == [["s"], ["l"]]


def test_a_stopped_exchange_makes_the_rescue_give_up_and_not_look_away(db: Session, session: Sessions) -> None:
    """R: an exchange that hangs holds the worker's row. A rescue that skipped it would say "not dead" for ever."""
    task, hub = db.enqueue(), session(open_transaction=True)
    worker = hub.register()
    hub.commit()
    hub.claim(worker)

    with pytest.raises(errors.LockNotAvailable):
        db.rescue(worker)

    assert db.value("SELECT pipeline.end_backends_v1(%s)", worker) == 1
    eventually(lambda: not db.ask("SELECT pid FROM pg_stat_activity WHERE pid = %s", hub.pid))
    assert db.rescue(worker) == 0
    assert db.copies(task) == 1


def test_claims_of_a_worker_row_deleted_by_hand_are_not_lost(db: Session) -> None:
    """Race 7: without the row nobody beats and nobody looks dead; the claims themselves say that there was a worker."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.ask("DELETE FROM pipeline.worker")

    with pytest.raises(psycopg2.Error, match="lost its lease"):
        db.exchange(worker, [Outcome(run)])
    watched = db.ask("SELECT worker_id, beat FROM pipeline.watch_workers_v1()")
    assert [row[0] for row in watched] == [worker]
    assert db.rescue(*watched[0][:1], beat=watched[0][1]) == 1

    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1
    assert db.ask("SELECT * FROM pipeline.watch_workers_v1()") == []


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_outcomes_against_rescues_conclude_each_run_once(db: Session, session: Sessions, scale: Scale) -> None:
    """Race 6 at random: exchange, transactional fence and two rescues of one worker start together, again and again."""
    parties = [session() for _ in range(4)]
    for _ in range(40 * scale.factor):
        tasks, worker = [db.enqueue(), db.enqueue()], db.register()
        first, second = db.claim(worker, 2)
        barrier = Barrier(len(parties))
        steps = [
            lambda s, w=worker, r=first: s.exchange(w, [Outcome(r)]),
            lambda s, w=worker, r=second: s.conclude(w, r),
            lambda s, w=worker: s.rescue(w, beat=0),
            lambda s, w=worker: s.rescue(w, beat=0),
        ]
        scale.dice.shuffle(steps)
        ends = [s.start(_at, barrier, step, s) for s, step in zip(parties, steps, strict=True)]
        assert {sqlstate(end.exception(10)) for end in ends} <= {None, "PQ002", "55P03"}
        db.rescue(worker, beat=0)
        for task in tasks:
            assert db.outcomes(task) in (["s"], ["l"])
            assert db.copies(task) == (db.outcomes(task) == ["l"])
        db.ask("DELETE FROM pipeline.ready")


def _at(barrier: Barrier, step: Callable[[Session], object], who: Session) -> object:
    barrier.wait(10)
    return step(who)
