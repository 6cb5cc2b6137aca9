"""Race 9: cancel against everything else that wants the same waiting task."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier

import pytest

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Session, new_id, retry, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]


def test_a_waiting_task_is_cancelled_once_and_never_claimed(db: Session) -> None:
    """Twice is the same as once; the audit says it once."""
    task, worker = db.enqueue(), db.register()

    assert [db.cancel(task), db.cancel(task)] == ["cancelled", "cancelled"]

    assert db.claim(worker, 10) == []
    assert db.outcomes(task) == ["c"]
    assert db.value("SELECT count(*) FROM pipeline.audit") == 1


def test_an_unknown_id_is_unknown(db: Session) -> None:
    """Not cancelled, not pending: None."""
    assert db.cancel(new_id()) is None


def test_a_claim_passes_by_a_cancel_at_work(db: Session, session: Sessions) -> None:
    """Cancel first: the claim does not wait for the operator's transaction, and gets nothing."""
    task, worker = db.enqueue(), db.register()
    operator = session(open_transaction=True)
    assert operator.cancel(task) == "cancelled"

    assert db.claim(worker, 10) == []

    operator.commit()
    assert db.outcomes(task) == ["c"]


def test_a_cancel_that_is_rolled_back_leaves_the_task_waiting(db: Session, session: Sessions) -> None:
    """Cancel belongs to the caller's transaction."""
    task, worker = db.enqueue(), db.register()
    operator = session(open_transaction=True)
    operator.cancel(task)
    operator.rollback()

    assert [run.message_id for run in db.claim(worker, 10)] == [task]
    assert db.outcomes(task) == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cancel_waits_for_a_claim_at_work_and_exactly_one_gets_it(db: Session, session: Sessions, end: str) -> None:
    """Claim first: committed, the task runs and the cancel says so; rolled back, the cancel has it."""
    task, worker = db.enqueue(), db.register()
    hub, operator = session(open_transaction=True), session()
    hub.claim(worker)
    cancel = operator.start(operator.cancel, task)
    waits_for_a_lock(db, operator)
    getattr(hub, end)()

    assert cancel.result(5) == ("running" if end == "commit" else "cancelled")
    assert db.copies(task) == (end == "commit")


def test_a_cancel_after_the_outcome_names_the_state_in_the_way(db: Session) -> None:
    """A finished task stays what it is."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    assert db.cancel(task) == "running"
    db.exchange(worker, [Outcome(run)])

    assert db.cancel(task) == "succeeded"
    assert db.outcomes(task) == ["s"]


def test_a_cancel_ends_a_task_that_waits_for_its_retry(db: Session) -> None:
    """Cancel against retry: no run follows, the attempts stay counted."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [retry(run, delay_ms=60_000)])

    assert db.cancel(task) == "cancelled"

    assert db.outcomes(task) == ["r", "c"]
    assert db.copies(task) == 0
    assert db.value("SELECT attempt FROM pipeline.task_status") == 1


@pytest.mark.parametrize("by", ["retry", "rescue", "replacement"])
def test_a_cancel_that_waited_gets_the_task_that_waits_again(db: Session, session: Sessions, by: str) -> None:
    """The key that cancel waited for is gone, and a new one came with the same commit: cancel must look again, or it
    would answer "queued" and the task would run."""
    task, worker = db.enqueue(), db.register()
    other, operator = session(open_transaction=True), session()
    if by == "replacement":
        other.enqueue(task)
    else:
        (run,) = other.claim(worker)
        other.exchange(worker, [retry(run)]) if by == "retry" else other.rescue(worker)

    cancel = operator.start(operator.cancel, task)
    waits_for_a_lock(db, operator)
    other.commit()

    assert cancel.result(5) == "cancelled"
    assert db.outcomes(task)[-1] == "c"
    assert db.copies(task) == 0


def test_a_late_outcome_after_rescue_and_cancel_changes_nothing(db: Session) -> None:
    """Cancel against rescue: the zombie's outcome meets the fence of its own run, and the cancelled one stays so."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.rescue(worker)
    assert db.cancel(task) == "cancelled"

    assert not db.conclude(worker, run)
    assert db.outcomes(task) == ["l", "c"]
    assert db.copies(task) == 0


def test_a_cancel_ends_a_delayed_task_and_one_whose_time_has_just_come(db: Session) -> None:
    """Cancel against eta: a key is a key, due or not."""
    later, worker = db.enqueue(d=60_000), db.register()
    due = db.enqueue(d=60_000)
    db.ask("UPDATE pipeline.ready SET eta = clock_timestamp() WHERE id = pipeline.find_task_v1(%s)", due)

    assert [db.cancel(later), db.cancel(due)] == ["cancelled", "cancelled"]
    assert db.claim(worker, 10) == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cancel_in_the_transaction_of_its_enqueue(db: Session, session: Sessions, end: str) -> None:
    """Seen there, and by nobody else: afterwards it is cancelled, or was never there."""
    business = session(open_transaction=True)
    task = business.enqueue()
    assert db.cancel(task) is None
    assert business.cancel(task) == "cancelled"
    getattr(business, end)()

    assert db.outcomes(task) == (["c"] if end == "commit" else [])
    assert db.cancel(task) == ("cancelled" if end == "commit" else None)
    assert db.claim(db.register(), 10) == []


def test_a_task_that_runs_again_after_it_finished_is_running(db: Session) -> None:
    """Cancel against re-enqueue: what stands in the way is this run, and not the outcome of an earlier one."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    db.enqueue(task)
    db.claim(worker)

    assert db.cancel(task) == "running"


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_cancel_against_claim_outcome_and_rescue(db: Session, session: Sessions, scale: Scale) -> None:
    """Race 9 at random: whoever wins, the task is finished once or waits once, and a cancelled one never runs."""
    parties = [session() for _ in range(4)]
    for _ in range(40 * scale.factor):
        task, worker, other = db.enqueue(), db.register(), db.register()
        (run,) = db.claim(worker) if scale.dice.random() < 0.5 else (None,)
        barrier = Barrier(len(parties))
        steps = [
            lambda s, t=task: s.cancel(t),
            lambda s, o=other: s.claim(o, 1),
            lambda s, w=worker: s.rescue(w, beat=0),
            lambda s, w=worker, r=run: r and s.conclude(w, r, *scale.dice.choice([("s",), ("r", {"delay": 0})])),
        ]
        ends = [s.start(_at, barrier, step, s) for s, step in zip(parties, steps, strict=True)]
        assert {sqlstate(end.exception(10)) for end in ends} <= {None, "PQ002", "55P03"}
        outcomes, copies = db.outcomes(task), db.copies(task)
        final = [outcome for outcome in outcomes if outcome in "sc"]
        assert len(final) + copies == 1, (outcomes, copies)
        assert not final or outcomes[-1] == final[0]
        assert (ends[0].result() == "cancelled") == (outcomes[-1:] == ["c"])
        db.ask("DELETE FROM pipeline.ready; DELETE FROM pipeline.claim; UPDATE pipeline.worker SET state = 's'")


def _at(barrier: Barrier, step: Callable[[Session], object], who: Session) -> object:
    barrier.wait(10)
    return step(who)
