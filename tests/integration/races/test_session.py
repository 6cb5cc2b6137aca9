"""The session fence: every change of a worker's state or session is FOR UPDATE and then UPDATE, and all ask for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.races.sessions import Outcome, Session, retry, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]

END = "SELECT pipeline.end_worker_v1(%s)"


@pytest.mark.parametrize("change", ["rescue", "resume", "end"])
def test_a_claim_waits_for_a_change_of_state_or_session_at_work(db: Session, session: Sessions, change: str) -> None:
    """R: every change is FOR UPDATE and then UPDATE; a bare UPDATE would let the claim's KEY SHARE pass, and the claim
    would belong to a worker that nobody watches."""
    task, worker = db.enqueue(), db.register()
    changer, hub = session(open_transaction=True), session()
    changes = {"rescue": changer.rescue, "resume": changer.resume, "end": lambda one: changer.ask(END, one)}
    changes[change](worker)

    claim = hub.start(hub.claim, worker)
    waits_for_a_lock(db, hub)
    changer.commit()

    assert sqlstate(claim.exception(5)) == "PQ002"
    assert db.value("SELECT count(*) FROM pipeline.claim") == 0
    assert db.copies(task) == db.waiting() == 1


@pytest.mark.parametrize("change", ["rescue", "resume", "end"])
def test_outcomes_wait_for_a_change_of_state_or_session_at_work(db: Session, session: Sessions, change: str) -> None:
    """R: the same for an exchange that only writes outcomes."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    changer, hub = session(open_transaction=True), session()
    changes = {"rescue": changer.rescue, "resume": changer.resume, "end": lambda one: changer.ask(END, one)}
    changes[change](worker)

    exchange = hub.start(hub.exchange, worker, [retry(run)], done=[run.claim])
    waits_for_a_lock(db, hub)
    changer.commit()

    assert sqlstate(exchange.exception(5)) == "PQ002"
    assert db.copies(task) == 1
    assert len(db.outcomes(task)) == 1


@pytest.mark.parametrize("change", ["resume", "end"])
def test_a_change_of_state_or_session_waits_for_an_exchange_at_work(
    db: Session, session: Sessions, change: str
) -> None:
    """R: the claim of an exchange that was first is seen by resume and end, and given back."""
    task, worker = db.enqueue(), db.register()
    hub, changer = session(open_transaction=True), session()
    hub.claim(worker)

    later = changer.start(changer.resume, worker) if change == "resume" else changer.start(changer.ask, END, worker)
    waits_for_a_lock(db, changer)
    hub.commit()

    later.result(5)
    assert db.value("SELECT count(*) FROM pipeline.claim") == 0
    assert db.outcomes(task) == ["i"]
    assert db.copies(task) == db.waiting() == 1


@pytest.mark.parametrize("change", ["rescue", "resume", "end"])
def test_a_worker_that_holds_two_claims_of_one_task_gives_back_the_one_that_runs(db: Session, change: str) -> None:
    """R: a neighbour keeps the first claim alive, the task was retried and claimed anew. Only the run that was really
    concluded here waits again; with both, the unique key would make every rescue fail, for ever."""
    retried, neighbour, worker = db.enqueue(), db.enqueue(), db.register()
    first, _ = db.claim(worker, 2)
    db.exchange(worker, [retry(first)])
    db.claim(worker)

    changes = {"rescue": db.rescue, "resume": db.resume, "end": lambda one: db.ask(END, one)}
    changes[change](worker)

    assert db.outcomes(retried) == ["r", "l" if change == "rescue" else "i"]
    assert db.copies(retried) == db.copies(neighbour) == 1
    assert db.waiting() == 2


def test_resume_waits_for_the_old_exchange_and_returns_its_claim(db: Session, session: Sessions) -> None:
    """R the session fence: the old backend is still at work when the new session begins. Its claim is seen."""
    task, worker = db.enqueue(), db.register()
    old, new = session(open_transaction=True), session()
    old.claim(worker)
    resumed = new.start(new.resume, worker)
    waits_for_a_lock(db, new)
    old.commit()

    assert resumed.result(5) == 2
    assert db.outcomes(task) == ["i"]
    assert db.copies(task) == db.waiting() == 1


def test_an_old_exchange_that_arrives_after_resume_is_refused(db: Session, session: Sessions) -> None:
    """R the session fence: what was still in a buffer of the network must not claim for one who does not listen."""
    task, worker = db.enqueue(), db.register()
    assert db.resume(worker) == 2
    late = session()

    assert sqlstate(late.start(late.claim, worker, session=1).exception(5)) == "PQ002"
    assert db.copies(task) == db.waiting() == 1
    assert len(db.claim(worker, session=2)) == 1


def test_resume_leaves_known_claims_alone_and_returns_others_with_their_place_and_number(db: Session) -> None:
    """Known claims go on; unknown ones wait in their old place, and their next run has a higher number."""
    db.enqueue()
    lost = db.enqueue()
    young = db.enqueue()
    worker = db.register()
    (known,), (unknown,) = db.claim(worker), db.claim(worker)

    assert db.resume(worker, [known.claim]) == 2
    assert db.resume(worker, [known.claim]) == 3, "asking again changes nothing"

    again, last = db.claim(worker, 2, session=3)
    assert (again.message_id, again.run, again.attempt, again.eta) == (lost, 2, 1, unknown.eta)
    assert last.message_id == young
    db.exchange(worker, [Outcome(known)], session=3)
    assert db.outcomes() == ["s", "i"]
