"""Races 10 and 25: a retry is part of its run's outcome; what did not end by itself is not counted as an attempt."""

from __future__ import annotations

from collections.abc import Callable

import dramatiq
import pytest

from pipeline import PostgresBroker
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Session, interrupted, message, retry

Sessions = Callable[..., Session]

orphaned = pytest.mark.leaves("claim", "worker")


@orphaned
def test_a_retry_that_was_not_flushed_leaves_no_trace(db: Session, session: Sessions) -> None:
    """Race 10: the process dies between Retries' enqueue and the flush of its outcome. The run is lost, uncounted."""
    task, worker = db.enqueue(), db.register()
    db.claim(worker)  # the retry stays in the dead process's memory
    db.rescue(worker)

    (again,) = db.claim(db.register())

    assert (again.message_id, again.run, again.attempt, again.patch) == (task, 2, 1, None)


@orphaned
def test_a_retry_whose_flush_is_cut_off_before_commit_leaves_no_trace(db: Session, session: Sessions) -> None:
    """Race 10: outcome and next run are one transaction, so there is no state between them."""
    task, worker = db.enqueue(), db.register()
    hub = session(open_transaction=True)
    (run,) = hub.claim(worker)
    hub.commit()
    hub.exchange(worker, [retry(run)])
    hub.connection.close()
    eventually(lambda: not db.ask("SELECT pid FROM pg_stat_activity WHERE pid = %s", hub.pid))

    assert db.rescue(worker) == 1
    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1


@orphaned
def test_a_retry_that_was_flushed_survives_its_process(db: Session) -> None:
    """Race 10: after the flush the next run waits, with its number, its attempt and its patched options."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [retry(run)])
    assert db.rescue(worker) == 0

    (again,) = db.claim(db.register())

    assert (again.run, again.attempt, again.patch) == (2, 2, {"retries": 1})
    assert db.outcomes(task) == ["r"]


@orphaned
def test_runs_always_increase_and_only_counted_ones_make_attempts(db: Session) -> None:
    """Interrupted and lost runs are numbered and not counted; the options of the last retry survive them."""
    db.enqueue()
    seen = []
    for way in ["retry", "interrupted", "lost", "retry", "returned", "lost"]:
        worker = db.register()
        (run,) = db.claim(worker)
        seen.append((run.run, run.attempt, (run.patch or {}).get("retries")))
        if way == "lost":
            db.rescue(worker)
            db.ask("UPDATE pipeline.ready SET eta = clock_timestamp()")  # the second loss waits a second
        elif way == "returned":
            db.ask("SELECT pipeline.end_worker_v1(%s)", worker)
        else:
            db.exchange(worker, [retry(run) if way == "retry" else interrupted(run)], done=[run.claim])
    (last,) = db.claim(db.register())

    assert seen == [(1, 1, None), (2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 3, 2), (6, 3, 2)]
    assert (last.run, last.attempt, last.patch) == (7, 3, {"retries": 2})


@orphaned
def test_a_task_lost_n_times_fails_as_poison_and_its_neighbours_go_on(db: Session) -> None:
    """Race 25: losses are counted apart and per task. Neighbours that were lost with it less often keep going, with
    their attempts as they were."""
    poison = db.enqueue()
    for round_ in range(3):
        neighbour, worker = db.enqueue(), db.register()
        db.ask("UPDATE pipeline.ready SET eta = clock_timestamp() - interval '1 s'")
        runs = {run.message_id: run for run in db.claim(worker, 10)}
        assert {poison, neighbour} <= set(runs)
        assert {run.attempt for run in runs.values()} == {1}
        db.exchange(worker, [Outcome(run) for key, run in runs.items() if key not in {poison, neighbour}])
        assert db.rescue(worker, max_losses=3) == 2
        assert db.outcomes(poison) == ["l"] * min(round_ + 1, 2) + ["f"] * (round_ == 2)

    assert db.copies(poison) == 0
    reasons = db.ask("SELECT reason FROM pipeline.attempt_history WHERE task_id = %s ORDER BY run", poison)
    assert reasons == [("lost",), ("lost",), ("poison",)]
    assert db.waiting() == 1  # the last neighbour


@orphaned
def test_a_finished_task_that_is_enqueued_again_begins_without_the_options_of_its_last_retry(db: Session) -> None:
    """A new run of a task that gave up is a fresh start: with the old count of retries it would give up at once."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [retry(run)], done=[run.claim])
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run, "f")], done=[run.claim])
    db.enqueue(task)

    (again,) = db.claim(worker)

    assert (again.run, again.patch) == (3, None)


@orphaned
def test_a_finished_task_that_runs_again_is_not_enqueued_a_third_time(db: Session) -> None:
    """A task has one copy: while its second run is claimed, another enqueue of the id is refused like at the first."""
    task, worker = db.enqueue(), db.register()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    db.enqueue(task)
    db.claim(worker)

    with pytest.raises(Exception, match="is running"):
        db.enqueue(task)

    assert db.copies(task) == 1


@orphaned
def test_a_replacement_waits_for_another_one_at_work(db: Session, session: Sessions) -> None:
    """Two senders replace one waiting task, one of them in a batch: the second does not take it for running."""
    from tests.integration.races.sessions import waits_for_a_lock

    task = db.enqueue()
    batch, single = session(open_transaction=True), session()
    batch.enqueue_many([message(), message(message_id=task)])
    second = single.start(single.enqueue, task)
    waits_for_a_lock(db, single)
    batch.commit()

    second.result(5)
    assert db.copies(task) == 1


def test_max_retries_holds_across_lost_runs(broker: PostgresBroker, db: Session) -> None:
    """Race 10 with a real worker that is declared dead under its first run: the retries are counted on, the task fails
    after the last one, and each counted attempt has its own number."""
    from threading import Event

    begun, release = Event(), Event()
    calls: list[int] = []

    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=2)
    def fail() -> None:
        calls.append(1)
        if len(calls) == 2:
            begun.set()
            assert release.wait(10)
        raise ValueError("no")

    sent = fail.send()
    with working(broker):
        assert begun.wait(5)
        (worker,) = db.ask("SELECT worker_id, beat FROM pipeline.worker WHERE state = 'a'")
        eventually(lambda: db.rescue(worker[0]) == 1)
        release.set()
        eventually(lambda: db.value("SELECT state FROM pipeline.task_status") == "failed", within=10)

    assert db.outcomes(sent.message_id) == ["r", "l", "r", "f"]
    counted = "SELECT attempt FROM pipeline.attempt WHERE outcome IN ('r', 'f') ORDER BY run"
    assert db.ask(counted) == [(1,), (2,), (3,)]


@pytest.mark.stress
@pytest.mark.timeout(900)
@orphaned
def test_stress_attempts_increase_whatever_happens_between(db: Session, scale: Scale) -> None:
    """Race 10 at random: runs increase by one, attempts only when they count, whatever ends a run."""
    for _ in range(5 * scale.factor):
        task, attempts = db.enqueue(), 0
        for number in range(1, 12):
            worker = db.register()
            (run,) = db.claim(worker)
            assert (run.run, run.attempt) == (number, attempts + 1)
            way = scale.dice.choice(["retry", "interrupted", "lost", "resumed"])
            if way == "lost":
                db.rescue(worker, max_losses=100)
            elif way == "resumed":
                db.resume(worker)
            else:
                db.exchange(worker, [retry(run) if way == "retry" else interrupted(run)], done=[run.claim])
                attempts += way == "retry"
            db.ask("UPDATE pipeline.ready SET eta = clock_timestamp() WHERE eta > clock_timestamp()")
        assert db.cancel(task) == "cancelled"
