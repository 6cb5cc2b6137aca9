"""Race 9: cancel against everything else that wants the same task, waiting or running."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier

import psycopg2
import pytest

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import (
    Outcome,
    Run,
    Session,
    interrupted,
    message,
    new_id,
    retry,
    sqlstate,
    waits_for_a_lock,
)

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
    """Claim first: committed, the task runs and is asked to end; rolled back, the cancel has it."""
    task, worker = db.enqueue(), db.register()
    hub, operator = session(open_transaction=True), session()
    hub.claim(worker)
    cancel = operator.start(operator.cancel, task)
    waits_for_a_lock(db, operator)
    getattr(hub, end)()

    assert cancel.result(5) == ("cancelling" if end == "commit" else "cancelled")
    assert db.copies(task) == (end == "commit")


def test_a_cancel_after_the_outcome_names_the_state_in_the_way(db: Session) -> None:
    """A finished task stays what it is."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)])

    assert db.cancel(task) == "succeeded"
    assert db.requests() == []
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

    assert db.cancel(task) == "cancelling"


# --- tasks that run ---------------------------------------------------------------------------------------------------


def give_back(db: Session, worker: int, run: Run) -> None:
    db.resume(worker)


def end_worker(db: Session, worker: int, run: Run) -> None:
    db.ask("SELECT pipeline.end_worker_v1(%s)", worker)


def kill(db: Session, worker: int, run: Run) -> None:
    db.ask("SELECT pipeline.end_killed_v1(%s, ARRAY[%s::bigint], ARRAY[%s], 'time_limit')", worker, run.id, run.run)


ENDS = {
    "success": lambda db, worker, run: db.exchange(worker, [Outcome(run, "s", {"result": 1, "ttl": 60_000})]),
    "failure": lambda db, worker, run: db.exchange(worker, [Outcome(run, "f")]),
    "retry": lambda db, worker, run: db.exchange(worker, [retry(run)]),
    "interruption": lambda db, worker, run: db.exchange(worker, [interrupted(run)]),
    "death of its thread": lambda db, worker, run: db.exchange(worker, [Outcome(run, "l", {"max_losses": 1})]),
    "loss": lambda db, worker, run: db.rescue(worker),
    "last loss": lambda db, worker, run: db.rescue(worker, max_losses=1),
    "lost reply": give_back,
    "shutdown": end_worker,
    "hard time limit": kill,
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_asked_to_end_ends_cancelled_whatever_its_run_does(db: Session, end: str) -> None:
    """Cancel against every conclusion there is. The neighbours of the run are none the worse."""
    task, worker = db.enqueue(), db.register()
    neighbour = db.enqueue()
    run, _ = db.claim(worker, 2)
    assert db.cancel(task) == "cancelling"
    assert db.outcomes() == []

    ENDS[end](db, worker, run)

    assert db.outcomes(task) == ["c"]
    assert db.copies(task) == 0
    assert db.copies(neighbour) + len(db.outcomes(neighbour)) >= 1
    assert "c" not in db.outcomes(neighbour)
    assert db.ask("SELECT state, attempt, error, result FROM pipeline.task_status WHERE task_id = %s", task) == [
        ("cancelled", 0, "Cancelled: why not", None)
    ]
    assert db.requests() == []
    assert db.cancel(task) == "cancelled"


def test_nothing_follows_from_a_run_that_was_asked_to_end(db: Session) -> None:
    """No next step, no count for its group, no callback."""
    task, worker, step, callback, group = db.enqueue(), db.register(), message(), message(), new_id()
    db.ask("SELECT pipeline.create_group_v1(%s, 1)", group)
    (run,) = db.claim(worker)
    db.cancel(task)

    db.exchange(worker, [Outcome(run, "s", {"enqueue": [step], "group": {"id": group, "callbacks": [callback]}})])

    assert db.outcomes(task) == ["c"]
    assert db.waiting() == 0
    assert db.value("SELECT remaining FROM pipeline.task_group") == 1


def test_a_batch_without_anything_extra_may_hold_a_cancelled_run(db: Session) -> None:
    """The hub passes no array of extras then; the outcomes of the others are theirs."""
    tasks, worker = [db.enqueue() for _ in range(3)], db.register()
    runs = db.claim(worker, 3)
    db.cancel(tasks[1])
    ids, numbers = [run.id for run in runs], [run.run for run in runs]
    db.ask(
        "SELECT pipeline.exchange_v1(%s, 1, %s::bigint[], %s::int[], '{s,s,f}', '{1,1,1}', '{1,1,1}', '{5,5,5}',"
        " '{1,1,1}', '{NULL,NULL,NULL}', NULL, false, '{}', '{default}', 0, NULL, NULL)",
        *(worker, ids, numbers),
    )

    assert [db.outcomes(task) for task in tasks] == [["s"], ["c"], ["f"]]
    assert db.value("SELECT finished_at > started_at FROM pipeline.attempt WHERE outcome = 'c'")


def test_the_transaction_of_a_transactional_actor_is_refused(db: Session, session: Sessions) -> None:
    """PQ004: its writes are rolled back; then the hub concludes it as cancelled."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.cancel(task)
    actor = session(open_transaction=True)
    with pytest.raises(psycopg2.Error, match="the task was cancelled") as caught:
        actor.conclude(worker, run)
    actor.rollback()

    assert sqlstate(caught.value) == "PQ004"
    assert db.outcomes(task) == []
    db.exchange(worker, [Outcome(run, "c", counts=False)])
    assert db.outcomes(task) == ["c"]
    assert db.requests() == []


def test_a_request_that_comes_after_the_fence_row_is_too_late(db: Session, session: Sessions) -> None:
    """Then it succeeded, and nothing remains that could harm a later run of the same message."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    actor = session(open_transaction=True)
    assert actor.conclude(worker, run)
    assert db.cancel(task) == "cancelling"
    actor.commit()

    assert db.outcomes(task) == ["s"]
    assert db.cancel(task) == "succeeded"
    assert db.requests() == []


def test_enqueueing_the_message_again_forgets_a_request_that_was_too_late(db: Session, session: Sessions) -> None:
    """Wanted again, it runs."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    actor = session(open_transaction=True)
    actor.conclude(worker, run)
    db.cancel(task)
    actor.commit()
    db.enqueue(task)

    assert db.requests() == []
    assert [run.message_id for run in db.claim(worker)] == [task]


@pytest.mark.parametrize("by", ["claim", "settler"])
def test_a_retry_that_is_committed_before_the_request_never_runs(db: Session, session: Sessions, by: str) -> None:
    """Cancel against the retry's outcome: the conclusion saw no request, the cancel saw no waiting task. Neither waited
    for the other, and whoever comes next notices."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    operator = session(open_transaction=True)
    assert operator.cancel(task) == "cancelling"
    db.exchange(worker, [retry(run)])
    assert db.waiting() == 1
    operator.commit()

    if by == "claim":
        assert db.claim(worker, 10) == []
    else:
        assert db.value("SELECT pipeline.settle_cancels_v1()") == 1

    assert db.outcomes(task) == ["r", "c"]
    assert db.copies(task) == 0
    assert db.requests() == []


def test_a_claim_hands_out_the_others(db: Session, session: Sessions) -> None:
    """What was asked to end is taken out of a claimed batch, and only that."""
    tasks, worker = [db.enqueue() for _ in range(3)], db.register()
    runs = db.claim(worker, 3)
    operator = session(open_transaction=True)
    operator.cancel(tasks[1])
    db.exchange(worker, [retry(run) for run in runs])
    operator.commit()

    again = db.claim(worker, 10)

    assert {run.message_id for run in again} == {tasks[0], tasks[2]}
    assert db.ask("SELECT ids, runs FROM pipeline.claim WHERE claim_id = %s", again[0].claim) == [
        ([run.id for run in again], [2, 2])
    ]


def test_a_claim_at_the_moment_of_the_request_runs_and_is_found_by_its_worker(db: Session, session: Sessions) -> None:
    """Cancel against claim: the request is there for the worker's next look."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    operator = session(open_transaction=True)
    operator.cancel(task)
    db.exchange(worker, [retry(run)])
    (again,) = db.claim(worker)
    operator.commit()

    assert db.ask("SELECT * FROM pipeline.cancel_requests_v1(ARRAY[%s::bigint])", run.id) == [(run.id, False)]
    db.exchange(worker, [Outcome(again)])
    assert db.outcomes(task) == ["r", "c"]


def test_a_request_that_is_rolled_back_was_never_made(db: Session, session: Sessions) -> None:
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    operator = session(open_transaction=True)
    operator.cancel(task)
    operator.rollback()
    db.exchange(worker, [Outcome(run)])

    assert db.outcomes(task) == ["s"]
    assert db.value("SELECT count(*) FROM pipeline.audit") == 0


def test_no_outcome_waits_for_a_transaction_that_cancels(db: Session, session: Sessions) -> None:
    """Also not if it has locked a request that stands: it may be the caller's, and take long."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.cancel(task)
    operator = session(open_transaction=True)
    operator.force(task, 0)
    db.ask("SET lock_timeout = '2s'")

    db.exchange(worker, [Outcome(run)])

    assert db.outcomes(task) == ["c"]
    operator.commit()
    assert len(db.requests()) == 1
    db.ask("UPDATE pipeline.cancel_request SET requested_at = requested_at - interval '10 min'")
    db.ask("SELECT pipeline.settle_cancels_v1()")
    assert db.requests() == []


def test_twice_is_once_and_force_may_come_later_but_not_be_taken_back(db: Session) -> None:
    task, worker = db.enqueue(), db.register()
    db.claim(worker)

    assert [db.cancel(task), db.cancel(task)] == ["cancelling", "cancelling"]
    assert db.requests() == [(task, None)]
    for milliseconds in (60_000, 90_000, None):
        assert db.force(task, milliseconds) == "cancelling"
    assert db.value("SELECT kill_at - requested_at < interval '70 s' FROM pipeline.cancel_request")
    assert db.ask("SELECT action FROM pipeline.audit ORDER BY audit_id") == [("cancel",), ("force",)]


def test_what_runs_is_not_forgotten_however_long_it_takes_and_what_has_nothing_to_do_is(
    db: Session, session: Sessions
) -> None:
    """The settler deletes requests of tasks that have ended or never were, after ten minutes."""
    running, ended, step, worker = db.enqueue(), db.enqueue(), new_id(), db.register()
    runs = db.claim(worker, 2)
    operator = session(open_transaction=True)
    assert operator.cancel_many([running, ended, step]) == ["cancelling", "cancelling", None]
    db.exchange(worker, [Outcome(runs[1])])
    operator.commit()

    db.ask("SELECT pipeline.settle_cancels_v1()")
    assert {message_id for message_id, _ in db.requests()} == {running, ended, step}
    db.ask("UPDATE pipeline.cancel_request SET requested_at = requested_at - interval '10 min'")
    db.ask("SELECT pipeline.settle_cancels_v1()")
    assert db.requests() == [(running, None)]


# --- chains -----------------------------------------------------------------------------------------------------------


def test_a_step_that_is_being_enqueued_at_this_moment_never_runs(db: Session, session: Sessions) -> None:
    """Cancel against the next step's enqueue, both uncommitted: neither sees the other, the step's claim sees both."""
    first, worker, second, third = db.enqueue(), db.register(), message(), new_id()
    (run,) = db.claim(worker)
    hub, operator = session(open_transaction=True), session(open_transaction=True)
    hub.exchange(worker, [Outcome(run, "s", {"enqueue": [second]})])
    assert operator.cancel_many([first, second["m"], third]) == ["cancelling", None, None]
    hub.commit()
    operator.commit()

    assert db.claim(worker, 10) == []
    assert (db.outcomes(first), db.outcomes(second["m"])) == (["s"], ["c"])


def test_a_step_that_was_enqueued_a_moment_before_is_gone(db: Session) -> None:
    first, worker, second = db.enqueue(), db.register(), message()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "s", {"enqueue": [second]})])

    assert db.cancel_many([first, second["m"]]) == ["succeeded", "cancelled"]
    assert db.waiting() == 0
    assert db.requests() == []


def test_no_step_is_refused_in_advance_where_nothing_was_there_to_cancel(db: Session) -> None:
    """Unknown altogether, or ended."""
    first, worker, second = db.enqueue(), db.register(), new_id()
    assert db.cancel_many([new_id(), second]) == [None, None]
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "f")])

    assert db.cancel_many([first, second]) == ["failed", None]
    assert db.requests() == []


def test_a_chain_that_is_wanted_again_runs_to_its_end(db: Session) -> None:
    """Enqueueing the first step again forgets what was refused in advance."""
    second = message()
    target = {"pipe_target": {"message_id": second["m"], "options": {}}}
    payload = {"args": [], "kwargs": {}, "options": target, "message_timestamp": 0}
    first, worker = db.enqueue(b=payload), db.register()
    assert db.cancel_many([first, second["m"]]) == ["cancelled", None]
    assert len(db.requests()) == 1
    db.enqueue(first, b=payload)
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "s", {"enqueue": [second]})])

    assert [each.message_id for each in db.claim(worker, 10)] == [second["m"]]


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_cancel_against_claim_outcome_and_rescue(db: Session, session: Sessions, scale: Scale) -> None:
    """Race 9 at random: whoever wins, the task is finished once or waits once, and what was asked to end neither waits
    when all is settled, nor is ever claimed."""
    parties = [session() for _ in range(5)]
    for _ in range(40 * scale.factor):
        task, worker, other = db.enqueue(), db.register(), db.register()
        (run,) = db.claim(worker) if scale.dice.random() < 0.7 else (None,)
        outcome = scale.dice.choice([("s",), ("r", {"delay": 0}), ("f",)])
        barrier = Barrier(len(parties))
        steps = [
            lambda s, t=task: s.cancel(t),
            lambda s, o=other: s.claim(o, 1),
            lambda s, w=worker: s.rescue(w, beat=0),
            lambda s, w=worker, r=run, o=outcome: r and s.conclude(w, r, *o),
            lambda s, w=worker, r=run, o=outcome: r and s.exchange(w, [Outcome(r, *o)]),
        ]
        ends = [s.start(_at, barrier, step, s) for s, step in zip(parties, steps, strict=True)]
        assert {sqlstate(end.exception(10)) for end in ends} <= {None, "PQ002", "PQ004", "55P03"}
        outcomes, copies = db.outcomes(task), db.copies(task)
        final = [letter for letter in outcomes if letter in "scf"]
        assert len(final) + copies == 1, (outcomes, copies)
        assert not final or outcomes[-1] == final[0]
        answer = ends[0].result()
        assert answer in {"cancelled", "cancelling", "succeeded", "failed"}
        db.ask("SELECT pipeline.settle_cancels_v1()")
        if answer in {"cancelled", "cancelling"}:
            assert db.waiting() == 0
            for held in ends[1].result() if ends[1].exception() is None else []:
                db.exchange(other, [retry(held)])
            db.rescue(worker, beat=0)
            assert db.copies(task) == 0
            assert db.outcomes(task)[-1] == "c" or answer == "cancelling"
        db.ask("DELETE FROM pipeline.ready; DELETE FROM pipeline.claim; UPDATE pipeline.worker SET state = 's'")


def _at(barrier: Barrier, step: Callable[[Session], object], who: Session) -> object:
    barrier.wait(10)
    return step(who)
