"""Race 11 for groups: each member counts once, by its id, in the transaction of its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Barrier, Event
from typing import Any

import dramatiq
import psycopg2
import pytest

from pipeline import PostgresBroker
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Session, message, new_id, sqlstate, waits_for_a_lock

Sessions = Callable[..., Session]

orphaned = pytest.mark.leaves("claim", "worker")


def group(db: Session, members: int, group_id: str | None = None) -> tuple[dict[str, Any], str]:
    """A group and what the outcome of each member says about it."""
    group_id, callback = group_id or new_id(), message("callback")
    db.ask("SELECT pipeline.create_group_v1(%s, %s)", group_id, members)
    return {"group": {"id": group_id, "callbacks": [callback]}}, callback["m"]


@orphaned
def test_a_member_that_ran_twice_counts_once(db: Session) -> None:
    """R each member counts by its id: enqueued again after its success it does not complete the group for another."""
    extra, callback = group(db, 2)
    first, second, worker = db.enqueue(), db.enqueue(), db.register()
    one, other = db.claim(worker, 2)
    db.exchange(worker, [Outcome(one, "s", extra)])
    db.enqueue(first)
    (again,) = db.claim(worker)
    db.exchange(worker, [Outcome(again, "s", extra)])
    assert db.copies(callback) == 0

    db.exchange(worker, [Outcome(other, "s", extra)])

    assert db.copies(callback) == 1
    assert (db.outcomes(first), db.outcomes(second)) == (["s", "s"], ["s"])


@orphaned
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_last_members_at_the_same_time_call_back_once(db: Session, session: Sessions, end: str) -> None:
    """Race 11: the second waits for the first one's count; whoever brings it to zero enqueues the callback."""
    extra, callback = group(db, 2)
    db.enqueue(), db.enqueue()
    workers = [db.register(), db.register()]
    runs = [db.claim(worker)[0] for worker in workers]
    first, second = session(open_transaction=True), session()
    assert first.conclude(workers[0], runs[0], "s", extra)
    later = second.start(second.exchange, workers[1], [Outcome(runs[1], "s", extra)])
    waits_for_a_lock(db, second)
    getattr(first, end)()

    later.result(5)
    assert db.copies(callback) == (end == "commit")
    if end == "rollback":
        db.exchange(workers[0], [Outcome(runs[0], "s", extra)])
        assert db.copies(callback) == 1


@orphaned
def test_groups_met_in_different_order_do_not_deadlock(db: Session, session: Sessions) -> None:
    """R batches take their groups in one order. In the order in which they stand in the batches, each would hold what
    the other wants, at the moment when both are held up at a third group of their own."""
    first, second, mine, yours = [group(db, 2, group_id) for group_id in sorted(new_id() for _ in range(4))]
    for _ in range(6):
        db.enqueue()
    hubs, workers, blockers = [session(), session()], [db.register(), db.register()], []
    ends = []
    for hub, worker, order in zip(hubs, workers, [(first, mine, second), (second, yours, first)], strict=True):
        blocker = session(open_transaction=True)
        blocker.ask("SELECT FROM pipeline.task_group WHERE group_id = %s FOR UPDATE", order[1][0]["group"]["id"])
        blockers.append(blocker)
        outcomes = [Outcome(run, "s", extra) for run, (extra, _) in zip(db.claim(worker, 3), order, strict=True)]
        ends.append(hub.start(hub.exchange, worker, outcomes))
        waits_for_a_lock(db, hub)
    for blocker in blockers:
        blocker.rollback()

    assert [sqlstate(end.exception(5)) for end in ends] == [None, None]
    assert [db.copies(callback) for _, callback in (first, second, mine, yours)] == [1, 1, 0, 0]


def test_a_real_group_calls_back_once_although_a_member_was_declared_lost(broker: PostgresBroker, db: Session) -> None:
    """Race 11 through Dramatiq's own composition: the worker loses its lease under a member, which runs twice."""
    runs: Counter[str] = Counter()
    begun, release = Event(), Event()

    @dramatiq.actor
    def member(name: str) -> None:
        runs[name] += 1
        if name == "slow" and runs[name] == 1:
            begun.set()
            assert release.wait(10)

    @dramatiq.actor
    def done() -> None:
        runs["done"] += 1

    members = dramatiq.group([member.message("quick"), member.message("slow")])
    members.add_completion_callback(done.message())
    with working(broker, threads=2):
        members.run()
        assert begun.wait(5)
        eventually(lambda: db.outcomes() == ["s"])
        worker = db.value("SELECT worker_id FROM pipeline.worker WHERE state = 'a'")
        eventually(lambda: db.rescue(worker) == 1)
        release.set()
        eventually(lambda: runs["done"])
        broker.join("default", timeout=10_000)

    assert runs == {"quick": 1, "slow": 2, "done": 1}


@pytest.mark.stress
@pytest.mark.timeout(900)
@orphaned
def test_stress_groups_concluded_by_many_sessions_call_back_once_each(
    db: Session, session: Sessions, scale: Scale
) -> None:
    """Race 11 at random: members of several groups, shuffled over sessions, some outcomes written twice."""
    hubs = [session() for _ in range(4)]
    for _ in range(5 * scale.factor):
        groups = [group(db, 6) for _ in range(4)]
        for _ in range(24):
            db.enqueue()
        workers = [db.register() for _ in hubs]
        work = [
            Outcome(run, "s", extra)
            for run, extra in zip(db.claim(workers[0], 24), [g for g, _ in groups] * 6, strict=True)
        ]
        scale.dice.shuffle(work)
        barrier = Barrier(len(hubs))
        ends = [
            hub.start(_conclude, barrier, hub, worker, work[index::3] if index < 3 else work[::2])
            for index, (hub, worker) in enumerate(zip(hubs, workers, strict=True))
        ]
        assert {sqlstate(end.exception(20)) for end in ends} <= {None}
        assert [db.copies(callback) for _, callback in groups] == [1] * 4
        db.ask("DELETE FROM pipeline.ready")


def _conclude(barrier: Barrier, hub: Session, worker: int, outcomes: list[Outcome]) -> None:
    barrier.wait(10)
    for start in range(0, len(outcomes), 5):
        while True:
            try:
                hub.exchange(worker, outcomes[start : start + 5])
            except psycopg2.errors.DeadlockDetected:  # two batches with the same runs: written again, as the hub does
                continue
            break
