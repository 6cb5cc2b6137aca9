"""Races 1, 2 and 13: a waiting run is claimed once, in order, and never more than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Barrier

import psycopg2
import pytest

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Run, Session, message, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]


def fill(db: Session, count: int, **more: object) -> None:
    db.enqueue_many([message(**more) for _ in range(count)], "n")


def claim_until_empty(session: Session, worker: int, want: int, barrier: Barrier) -> list[Run]:
    claimed: list[Run] = []
    barrier.wait(10)
    while got := session.claim(worker, want):
        assert len(got) <= want
        claimed += got
    return claimed


def race(sessions: list[Session], want: int) -> list[Run]:
    barrier = Barrier(len(sessions))
    workers = [each.register() for each in sessions]
    claims: list[Future[list[Run]]] = [
        each.start(claim_until_empty, each, worker, want, barrier)
        for each, worker in zip(sessions, workers, strict=True)
    ]
    return [run for each in claims for run in each.result(30)]


def test_claimers_at_the_same_time_share_all_tasks_and_none_twice(db: Session, session: Sessions) -> None:
    """Race 1: eight claimers that start together. Closed by FOR UPDATE SKIP LOCKED and DELETE in one statement."""
    fill(db, 400)

    claimed = race([session() for _ in range(8)], want=7)

    assert len(claimed) == 400
    assert len({run.id for run in claimed}) == 400
    assert db.waiting() == 0


def test_a_claim_passes_by_what_an_open_claim_holds(db: Session, session: Sessions) -> None:
    """Race 1, step by step: the first claim is not committed; the second neither waits for it nor takes the same."""
    fill(db, 4)
    first, second = session(open_transaction=True), session(open_transaction=True)
    one, other = db.register(), db.register()

    held = first.claim(one, 2)
    passed = second.claim(other, 4)

    assert len(held) == len(passed) == 2
    assert not {run.id for run in held} & {run.id for run in passed}
    first.commit(), second.commit()
    assert db.waiting() == 0


def test_what_a_rolled_back_claim_held_is_claimed_by_the_next(db: Session, session: Sessions) -> None:
    """Race 1: a claim that is undone leaves its tasks as they were, in their old places."""
    fill(db, 3)
    first = session(open_transaction=True)
    worker = db.register()
    held = first.claim(worker, 2)
    first.rollback()

    claimed = db.claim(worker, 3)

    assert [(run.id, run.run) for run in claimed[:2]] == [(run.id, run.run) for run in held]
    assert len(claimed) == 3


def test_a_claim_whose_backend_is_killed_is_claimed_by_the_next(db: Session, session: Sessions) -> None:
    """Race 1: the backend dies after it deleted the keys and before COMMIT, in the middle of waiting for its fence."""
    fill(db, 3)
    claimer, blocker = session(), session(open_transaction=True)
    worker = claimer.register()
    blocker.ask("SELECT FROM pipeline.worker WHERE worker_id = %s FOR UPDATE", worker)
    claim = claimer.start(claimer.claim, worker, 3)
    waits_for_a_lock(db, claimer)

    db.ask("SELECT pg_terminate_backend(%s)", claimer.pid)

    with pytest.raises(psycopg2.OperationalError):
        claim.result(5)
    blocker.rollback()
    assert len(db.claim(db.register(), 10)) == 3
    assert db.value("SELECT count(*) FROM pipeline.claim") == 1


@pytest.mark.parametrize("statistics", ["never", "empty", "stale"])
def test_no_claim_takes_more_than_was_asked_whatever_the_statistics(db: Session, statistics: str) -> None:
    """Race 2: a plan that runs the inner SELECT twice would claim too many. ctid = ANY(ARRAY(…)) runs it once."""
    lanes = [db.lane("default", priority) for priority in range(3)]
    if statistics == "empty":
        db.ask("ANALYZE pipeline.ready")
    db.ask(
        "INSERT INTO pipeline.ready (id, eta, lane_id, run)"
        " SELECT n, clock_timestamp() - n * interval '1 ms', (%s::int[])[1 + n %% 3], 1"
        " FROM generate_series(1, 100000) n",
        lanes,
    )
    if statistics == "stale":
        db.ask("ANALYZE pipeline.ready")
        db.ask("DELETE FROM pipeline.ready WHERE id % 97 <> 0")
    worker = db.register()
    waiting = db.waiting()

    for want in (1, 2, 50, 333):
        assert len(db.claim(worker, want)) == min(want, waiting)
        waiting -= min(want, waiting)
        assert db.waiting() == waiting


def test_the_limit_holds_over_several_lanes(db: Session) -> None:
    """Race 2: what one lane gave is not asked of the next."""
    for priority in range(3):
        db.lane("default", priority)
        fill(db, 4, p=priority)
    worker = db.register()

    claimed = db.claim(worker, 6)

    assert sorted(run.lane for run in claimed) == [db.lane("default", 0)] * 4 + [db.lane("default", 1)] * 2
    assert len(db.claim(worker, 100)) == 6


def test_tasks_are_claimed_by_priority_then_eta_then_age(db: Session) -> None:
    """Race 13: the order among the rows that are visible, one claim at a time."""
    db.lane("default", 5), db.lane("urgent", -1)
    low = db.enqueue(p=5)
    first, second = db.enqueue(), db.enqueue()
    early = db.enqueue(d=-60_000)
    urgent = db.enqueue(q="urgent", p=-1)
    worker = db.register()

    order = [db.claim(worker, 1, queues=["default", "urgent"])[0].message_id for _ in range(5)]

    assert order == [urgent, early, first, second, low]


def test_a_task_committed_late_is_claimed_before_younger_ones(db: Session, session: Sessions) -> None:
    """Race 13: two producers commit in reverse order. Visible rows go first; the late one is not forgotten."""
    slow = session(open_transaction=True)
    worker = db.register()
    late = slow.enqueue()
    seen, waiting = db.enqueue(), db.enqueue()

    assert [run.message_id for run in db.claim(worker, 1)] == [seen]
    slow.commit()

    assert [db.claim(worker, 1)[0].message_id for _ in range(2)] == [late, waiting]


def test_a_delayed_task_is_not_claimed_before_its_time(db: Session) -> None:
    """Race 13: due is what the database's clock says at the claim."""
    delayed = db.enqueue(d=60_000)
    worker = db.register()

    assert db.claim(worker, 10) == []
    db.ask("UPDATE pipeline.ready SET eta = clock_timestamp() - interval '1 ms'")
    assert [run.message_id for run in db.claim(worker, 10)] == [delayed]


def test_a_paused_queue_is_left_alone_and_does_not_hold_up_others(db: Session) -> None:
    """Race 2: the rows of a paused queue are not touched, also at the highest priority."""
    db.lane("paused", -5)
    db.enqueue(q="paused", p=-5)
    open_one = db.enqueue()
    db.ask("UPDATE pipeline.queue SET paused_at = clock_timestamp() WHERE name = 'paused'")
    worker = db.register()

    claimed = db.claim(worker, 10, queues=["paused", "default"])
    assert [run.message_id for run in claimed] == [open_one]

    db.ask("UPDATE pipeline.queue SET paused_at = NULL")
    assert len(db.claim(worker, 10, queues=["paused", "default"])) == 1


def test_queues_of_equal_priority_take_turns(db: Session) -> None:
    """No queue starves behind another of its priority: of 40 claims of one task each gets some."""
    db.lane("other")
    fill(db, 60), fill(db, 60, q="other")
    worker = db.register()

    lanes = {db.claim(worker, 1, queues=["default", "other"])[0].lane for _ in range(40)}

    assert lanes == {db.lane("default"), db.lane("other")}


def test_a_task_waits_at_most_once(db: Session) -> None:
    """R ready(id) is unique: whatever goes wrong elsewhere, the second key of a task is refused."""
    db.enqueue()

    with pytest.raises(psycopg2.errors.UniqueViolation, match="ready_id_key"):
        db.ask(
            "INSERT INTO pipeline.ready (id, eta, lane_id, run)"
            " SELECT id, eta + interval '1 s', lane_id, 2 FROM pipeline.ready"
        )


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_claims_with_rollbacks_and_kills_are_disjoint_and_complete(
    db: Session, session: Sessions, scale: Scale
) -> None:
    """Race 1 at random: some claims roll back, some backends are killed; each task is claimed exactly once."""
    count = 500 * scale.factor
    fill(db, count)
    seeds = [scale.dice.random() for _ in range(6)]
    parts = [db.start(_claim_at_random, session, seed) for seed in seeds]

    claimed = [key for part in parts for key in part.result(50)]

    assert len(claimed) == len(set(claimed)) == count
    assert db.value("SELECT sum(cardinality(ids)) FROM pipeline.claim") == count


def _claim_at_random(session: Sessions, seed: float) -> list[tuple[int, int]]:
    import random

    dice = random.Random(seed)
    mine, claimed = session(open_transaction=True), []
    worker = mine.register()
    mine.commit()
    while True:
        got = mine.claim(worker, dice.randint(1, 20))
        chance = dice.random()
        if chance < 0.1:
            mine.rollback()
            continue
        if chance < 0.15:
            mine.connection.close()  # the server rolls back
            mine = session(open_transaction=True)
            continue
        mine.commit()
        if not got and not mine.waiting():
            return claimed
        claimed += [(run.id, run.run) for run in got]
