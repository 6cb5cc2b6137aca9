"""A worker whose process was killed for the sake of a run that would not end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.races.sessions import Outcome, Run, Session, retry, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]


def end_killed(db: Session, worker: int, *runs: Run) -> int | None:
    call = "SELECT pipeline.end_killed_v1(%s, %s::bigint[], %s::int[], 'time_limit')"
    return db.value(call, worker, [run.id for run in runs], [run.run for run in runs])  # type: ignore[no-any-return]


def hold(db: Session, count: int) -> tuple[int, list[Run]]:
    worker = db.register()
    for _ in range(count):
        db.enqueue()
    return worker, db.claim(worker, count)


def test_the_run_gets_a_verdict_and_its_neighbours_wait_again_uncounted(db: Session) -> None:
    worker, (stuck, *neighbours) = hold(db, 3)

    assert end_killed(db, worker, stuck) == 1

    again = {run.message_id: run for run in db.claim(db.register(), 10)}
    assert again[stuck.message_id].patch == {"verdict": "time_limit"}
    assert [again[run.message_id].patch for run in neighbours] == [None, None]
    assert {(run.run, run.attempt) for run in again.values()} == {(2, 1)}
    assert db.outcomes() == ["i", "i", "i"]


def test_the_verdict_keeps_what_the_next_run_starts_with(db: Session) -> None:
    """How often it was retried, above all."""
    worker, (run,) = hold(db, 1)
    db.exchange(worker, [retry(run)], done=[run.claim])
    (second,) = db.claim(worker)

    end_killed(db, worker, second)

    (third,) = db.claim(db.register())
    assert third.patch == {"retries": 1, "verdict": "time_limit"}
    assert third.attempt == 2


def test_the_run_after_the_verdict_knows_nothing_of_it(db: Session) -> None:
    worker, (run,) = hold(db, 1)
    end_killed(db, worker, run)
    other = db.register()
    (judged,) = db.claim(other)
    db.exchange(other, [retry(judged)], done=[judged.claim])

    (after,) = db.claim(other)
    assert after.patch == {"retries": 1}


def test_a_run_that_was_concluded_all_the_same_stays_so(db: Session) -> None:
    """R the fence: its outcome was on its way when the process was killed."""
    worker, (stuck, other) = hold(db, 2)
    db.exchange(worker, [Outcome(stuck)])

    assert end_killed(db, worker, stuck) == 0

    assert db.outcomes(stuck.message_id) == ["s"]
    assert db.copies(stuck.message_id) == 0
    assert db.copies(other.message_id) == 1


def test_what_the_dead_process_sent_late_changes_nothing(db: Session) -> None:
    worker, (stuck,) = hold(db, 1)
    end_killed(db, worker, stuck)

    late = db.start(db.exchange, worker, [Outcome(stuck)])

    assert sqlstate(late.exception(5)) == "PQ002"
    assert db.outcomes(stuck.message_id) == ["i"]
    assert db.copies(stuck.message_id) == 1


def test_a_worker_ends_once(db: Session) -> None:
    worker, (stuck,) = hold(db, 1)
    assert end_killed(db, worker, stuck) == 1
    assert end_killed(db, worker, stuck) is None
    assert db.rescue(worker) is None
    assert db.copies(stuck.message_id) == 1


def test_runs_of_others_are_none_of_its_business(db: Session) -> None:
    worker, (mine,) = hold(db, 1)
    _, (theirs,) = hold(db, 1)

    assert end_killed(db, worker, mine, theirs) == 1

    assert db.outcomes(theirs.message_id) == []


def test_it_gives_up_while_a_session_of_the_process_still_commits(db: Session, session: Sessions) -> None:
    """Its transaction holds the fence row; once the server has noticed the end of the process, it is tried again."""
    worker, (stuck,) = hold(db, 1)
    dying = session(open_transaction=True)
    assert dying.conclude(worker, stuck)
    master = session()
    ending = master.start(end_killed, master, worker, stuck)
    waits_for_a_lock(db, master)

    assert sqlstate(ending.exception(5)) == "55P03"
    assert db.copies(stuck.message_id) == 1
    dying.rollback()
    assert end_killed(db, worker, stuck) == 1
