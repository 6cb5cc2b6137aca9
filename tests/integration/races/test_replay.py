"""Race 8 for a send on a connection of our own: its replay looks for what the original left."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier

import pytest

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Session, message, sqlstate, waits_for_a_lock

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]


@pytest.mark.parametrize("known", [False, True])
def test_a_replay_waits_for_the_end_of_its_original(db: Session, session: Sessions, known: bool) -> None:
    """R the unique keys: the original is still at work. Without them the replay would see nothing and insert again."""
    original, replay = session(open_transaction=True), session()
    task = None
    if known:
        worker, task = db.register(), db.enqueue()
        (run,) = db.claim(worker)
        db.exchange(worker, [Outcome(run)], done=[run.claim])
        grow_old(db)
    task = original.enqueue(task)
    second = replay.start(replay.enqueue, task, mode="r", since_ms=100)
    waits_for_a_lock(db, replay)
    original.commit()

    second.result(5)
    assert db.value("SELECT count(*) FROM pipeline.task") == db.copies(task) == db.waiting() == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_replay_inserts_if_its_original_rolled_back(db: Session, session: Sessions, many: bool) -> None:
    """R: the replay waited, looked and found nothing."""
    original, replay = session(open_transaction=True), session()
    batch = [message(), message()]
    if many:
        original.enqueue_many(batch)
        second = replay.start(replay.enqueue_many, batch, "r", 100)
    else:
        original.enqueue(batch[0]["m"])
        second = replay.start(replay.enqueue, batch[0]["m"], mode="r", since_ms=100)
    waits_for_a_lock(db, replay)
    original.rollback()

    second.result(5)
    assert db.value("SELECT count(*) FROM pipeline.task") == db.waiting() == (2 if many else 1)


def grow_old(db: Session) -> None:
    db.ask("UPDATE pipeline.task SET created_at = created_at - interval '1 h'")
    db.ask("UPDATE pipeline.attempt SET started_at = now() - interval '1 h', finished_at = now() - interval '1 h'")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("progress", ["waiting", "claimed", "finished"])
def test_a_replay_finds_its_original_whatever_became_of_it(
    db: Session, session: Sessions, known: bool, progress: str
) -> None:
    """The original was committed and a worker was quick: its run is not repeated, and the sender hears no error. Also
    if the id was an old one that had finished, and if the replay had to wait or the way to the server was slow."""
    worker = db.register()
    task = db.enqueue()
    if known:
        (run,) = db.claim(worker)
        db.exchange(worker, [Outcome(run)], done=[run.claim])
        grow_old(db)
        db.enqueue(task)
    if progress != "waiting":
        (run,) = db.claim(worker)
    if progress == "finished":
        db.exchange(worker, [Outcome(run)], done=[run.claim])

    blocker = session(open_transaction=True)
    blocker.ask("LOCK TABLE pipeline.task IN ACCESS EXCLUSIVE MODE")
    replay = session()
    second = replay.start(replay.enqueue, task, mode="r", since_ms=0)
    waits_for_a_lock(db, replay)
    blocker.rollback()

    second.result(5)
    assert db.value("SELECT count(*) FROM pipeline.task") == 1
    assert db.copies(task) == (progress != "finished")
    assert db.outcomes(task) == ["s"] * (known + (progress == "finished"))


def test_a_replay_for_an_old_finished_id_whose_original_never_came_runs_it_again(db: Session) -> None:
    """Neither lost: the run that finished long ago is not taken for the one that was asked for."""
    worker, task = db.register(), db.enqueue()
    (run,) = db.claim(worker)
    db.exchange(worker, [Outcome(run)], done=[run.claim])
    grow_old(db)

    db.enqueue(task, mode="r", since_ms=50)

    assert db.copies(task) == db.waiting() == 1


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_originals_and_replays_of_one_message_insert_it_once(
    db: Session, session: Sessions, scale: Scale
) -> None:
    """Race 8 at random: an original that ends in either way, its two replays, and a worker that is quick."""
    original, *replays, hub = session(open_transaction=True), session(), session(), session()
    worker = db.register()
    for _ in range(30 * scale.factor):
        task, is_kept, barrier = db.value("SELECT gen_random_uuid()::text"), scale.dice.random() < 0.5, Barrier(4)
        original.enqueue(task)
        ends = [each.start(_replay, barrier, each, task) for each in replays]
        ends += [original.start(_end, barrier, original, is_kept), hub.start(_run, barrier, hub, worker)]
        assert {sqlstate(end.exception(10)) for end in ends} == {None}
        assert db.copies(task) + len(db.outcomes(task)) == 1
        assert db.value("SELECT count(*) FROM pipeline.task WHERE message_id = %s", task) == 1
        db.ask("DELETE FROM pipeline.ready")


def _end(barrier: Barrier, sender: Session, is_kept: bool) -> None:
    barrier.wait(10)
    sender.commit() if is_kept else sender.rollback()


def _replay(barrier: Barrier, sender: Session, task: str) -> None:
    barrier.wait(10)
    sender.enqueue(task, mode="r", since_ms=0)


def _run(barrier: Barrier, hub: Session, worker: int) -> None:
    barrier.wait(10)
    for _ in range(3):
        runs = hub.claim(worker)
        hub.exchange(worker, [Outcome(run) for run in runs], done=[run.claim for run in runs])
