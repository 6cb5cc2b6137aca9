"""What a death costs the tasks of a worker: those that had begun, and those that had not."""

from __future__ import annotations

import pytest

from tests.integration.races.sessions import Outcome, Run, Session, retry

pytestmark = pytest.mark.leaves("claim", "worker")


def hold(db: Session, count: int) -> tuple[int, list[Run]]:
    worker = db.register()
    for _ in range(count):
        db.enqueue()
    return worker, db.claim(worker, count)


def lose(db: Session, run: Run) -> Run:
    """Let a task lose its worker, and claim it again however long it should wait."""
    worker = db.value("SELECT worker_id FROM pipeline.claim WHERE %s = ANY (ids)", run.id)
    db.rescue(worker)
    db.ask("UPDATE pipeline.ready SET eta = clock_timestamp() - interval '1 s'")
    (again,) = db.claim(db.register())
    return again


def test_only_what_had_begun_counts_a_loss(db: Session) -> None:
    worker, (begun, *waiting) = hold(db, 4)

    assert db.rescue(worker, started=[begun.id]) == 1

    assert db.outcomes(begun.message_id) == ["l"]
    assert [db.outcomes(run.message_id) for run in waiting] == [["i"]] * 3
    again = db.claim(db.register(), 10)
    assert {run.id: (run.run, run.attempt, run.losses) for run in again} == {
        begun.id: (2, 1, 1),
        **{run.id: (2, 1, 0) for run in waiting},
    }
    assert {run.id: run.eta for run in again if run.id != begun.id} == {run.id: run.eta for run in waiting}


def test_if_nobody_knows_what_had_begun_all_of_it_counts(db: Session) -> None:
    worker, runs = hold(db, 2)

    assert db.rescue(worker) == 2

    assert [db.outcomes(run.message_id) for run in runs] == [["l"], ["l"]]


def test_if_nothing_had_begun_nothing_is_lost(db: Session) -> None:
    worker, runs = hold(db, 2)

    assert db.rescue(worker, started=[]) == 0

    assert db.outcomes() == ["i", "i"]
    assert db.waiting() == 2
    assert db.copies(runs[0].message_id) == 1


def test_a_run_that_was_concluded_all_the_same_is_left_alone(db: Session) -> None:
    """R the fence: also if its process died before it could note that the run had ended."""
    worker, (done, other) = hold(db, 2)
    db.exchange(worker, [Outcome(done)])

    assert db.rescue(worker, started=[done.id, other.id]) == 1

    assert (db.outcomes(done.message_id), db.copies(done.message_id)) == (["s"], 0)
    assert db.copies(other.message_id) == 1


def test_losses_are_counted_over_retries_and_interruptions(db: Session) -> None:
    _, (run,) = hold(db, 1)
    run = lose(db, run)
    assert run.losses == 1
    worker = db.value("SELECT worker_id FROM pipeline.claim WHERE %s = ANY (ids)", run.id)
    db.exchange(worker, [retry(run)], done=[run.claim])
    (run,) = db.claim(worker)
    assert run.losses == 1

    assert lose(db, run).losses == 2


def test_a_task_that_has_ended_begins_anew_when_it_is_enqueued_again(db: Session) -> None:
    """Its old losses are no reason to fail as poison with the first new one."""
    _, (run,) = hold(db, 1)
    run = lose(db, lose(db, run))
    assert run.losses == 2
    worker = db.value("SELECT worker_id FROM pipeline.claim WHERE %s = ANY (ids)", run.id)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    db.enqueue(run.message_id)
    (anew,) = db.claim(worker)
    assert anew.losses == 0

    db.rescue(worker)

    assert db.outcomes(run.message_id) == ["l", "l", "s", "l"]


def test_a_step_that_was_committed_makes_up_for_the_losses_before_it(db: Session) -> None:
    """A long task that gets on a little each time is no poison; one that dies in the same step each time is."""
    _, (run,) = hold(db, 1)
    for _ in range(4):
        db.ask("SELECT pipeline.open_checkpoint_v1(%s, %s)", run.id, run.run)
        assert db.value("SELECT pipeline.save_checkpoint_v1(%s, %s, '1')", run.id, run.run)
        run = lose(db, run)
        assert run.losses == 1
    for losses in (2, 3):
        db.ask("SELECT pipeline.open_checkpoint_v1(%s, %s)", run.id, run.run)
        run = lose(db, run) if losses < 3 else run
        assert run.losses == 2
    worker = db.value("SELECT worker_id FROM pipeline.claim WHERE %s = ANY (ids)", run.id)

    db.rescue(worker, started=[run.id])

    assert db.outcomes(run.message_id) == ["l"] * 5 + ["f"]


def test_the_last_loss_is_poison(db: Session) -> None:
    _, (run,) = hold(db, 1)
    run = lose(db, lose(db, run))
    worker = db.value("SELECT worker_id FROM pipeline.claim WHERE %s = ANY (ids)", run.id)

    db.rescue(worker, started=[run.id])

    assert db.outcomes(run.message_id) == ["l", "l", "f"]
    assert db.copies(run.message_id) == 0


def test_a_slot_is_free_again_for_what_had_begun_and_for_what_had_not(db: Session) -> None:
    """A limited queue takes as many as before, and no more."""
    db.lane()
    db.ask("UPDATE pipeline.queue SET max_running = 2")
    worker, (begun, _) = hold(db, 2)
    db.enqueue()
    assert db.claim(db.register()) == []

    db.rescue(worker, started=[begun.id])

    assert len(db.claim(db.register(), 5)) == 2
