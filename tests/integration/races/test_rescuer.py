"""Race 7: who is dead is decided by the rescuer's own clock, over what it saw itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import psycopg2
import pytest

from pipeline.db.statements import load
from pipeline.maintenance import rescuer as rescuer_module
from pipeline.maintenance.rescuer import Rescuer
from pipeline.settings import Settings
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Run, Session

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]

LEASE = 30.0


class Clock:
    """The rescuer's monotonic clock, which only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rescuer_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Watch:
    """A rescuer with the session it watches over."""

    def __init__(self, session: Session, clock: Clock, own_id: int = 0) -> None:
        self._session, self._clock = session, clock
        self.rescuer = Rescuer(Settings(lease_seconds=LEASE), load("pipeline"), lambda: own_id)

    def look(self, after: float = 0.0) -> None:
        self._clock.now += after
        with self._session.connection.cursor() as cursor:
            self.rescuer.run(cursor)


@pytest.fixture
def watch(session: Sessions, clock: Clock) -> Watch:
    return Watch(session(), clock)


def held(db: Session, session: Sessions) -> tuple[Session, int, str]:
    """A worker with one task, and its database session."""
    task, hub = db.enqueue(), session()
    worker = hub.register()
    hub.claim(worker)
    return hub, worker, task


def vanish(db: Session, hub: Session) -> None:
    hub.connection.close()
    eventually(lambda: not db.ask("SELECT pid FROM pg_stat_activity WHERE pid = %s", hub.pid))


def test_a_worker_is_dead_when_its_beat_stood_still_for_a_lease(db: Session, session: Sessions, watch: Watch) -> None:
    """Not a moment earlier, as long as its session is there."""
    _, _, task = held(db, session)
    watch.look()
    watch.look(after=LEASE - 0.1)
    assert db.outcomes(task) == []

    watch.look(after=0.1)

    assert db.outcomes(task) == ["l"]


def test_a_beat_starts_the_lease_anew(db: Session, session: Sessions, watch: Watch) -> None:
    """A lease is counted from the last beat that the rescuer saw change."""
    hub, worker, task = held(db, session)
    watch.look()
    for _ in range(5):
        watch.look(after=LEASE - 1)
        assert hub.beat(worker)
    watch.look(after=LEASE)

    assert db.outcomes(task) == []


def test_the_times_in_the_worker_row_do_not_matter(db: Session, session: Sessions, watch: Watch) -> None:
    """Race 14: beat_at is for people; a row that looks a day old is watched for a lease like any other."""
    _, _, task = held(db, session)
    db.ask("UPDATE pipeline.worker SET beat_at = now() - interval '1 day', started_at = now() - interval '1 day'")
    watch.look()
    watch.look(after=LEASE / 2)

    assert db.outcomes(task) == []


def test_after_an_outage_fresh_rescuers_rescue_nobody(db: Session, session: Sessions, clock: Clock) -> None:
    """R: all beats are old and no session is left. The first one back did not see them vanish, and waits."""
    hubs = [held(db, session) for _ in range(3)]
    for hub, _, _ in hubs:
        vanish(db, hub)
    fresh = [Watch(session(), clock) for _ in range(3)]
    for _ in range(9):
        for each in fresh:
            each.look(after=LEASE / 30)

    assert db.outcomes() == []


def test_a_rescuer_whose_session_broke_forgets_what_it_saw(db: Session, session: Sessions, watch: Watch) -> None:
    """R: only an unbroken session counts: nothing seen before the outage makes anybody dead after it."""
    hub, _, task = held(db, session)
    watch.look()
    watch.look(after=LEASE - 1)
    vanish(db, hub)

    watch.rescuer.forget()
    watch.look(after=LEASE / 2)
    watch.look(after=LEASE - 1)
    assert db.outcomes(task) == []

    watch.look(after=1)
    assert db.outcomes(task) == ["l"]


def test_a_worker_whose_sessions_were_seen_to_vanish_is_dead_after_a_fifth_of_the_lease(
    db: Session, session: Sessions, watch: Watch
) -> None:
    """R the quick way: sessions seen, sessions gone, a lease watched, the beat still for 20 % of the lease."""
    hub, worker, task = held(db, session)
    watch.look()
    watch.look(after=LEASE - 1)
    assert hub.beat(worker)
    watch.look(after=2)
    vanish(db, hub)
    watch.look(after=0.19 * LEASE)
    assert db.outcomes(task) == []

    watch.look(after=0.01 * LEASE)

    assert db.outcomes(task) == ["l"]


def test_the_quick_way_is_closed_until_a_lease_was_watched(db: Session, session: Sessions, watch: Watch) -> None:
    """R: sessions that vanish soon after the rescuer's own was opened may have gone the same way as its old one."""
    hub, _, task = held(db, session)
    watch.look()
    vanish(db, hub)
    watch.look(after=0.5 * LEASE)
    watch.look(after=0.4 * LEASE)

    assert db.outcomes(task) == []


def test_the_quick_way_is_closed_for_sessions_never_seen(db: Session, session: Sessions, watch: Watch) -> None:
    """R: behind a pooler, or without the right to look, no session is ever seen; then only the lease decides."""
    watch.look()
    watch.look(after=2 * LEASE)
    hub, _, task = held(db, session)
    vanish(db, hub)
    watch.look()
    watch.look(after=0.9 * LEASE)

    assert db.outcomes(task) == []


def test_nobody_rescues_itself(db: Session, session: Sessions, clock: Clock) -> None:
    """A process that was stopped for a lease finds its own beat old when it wakes; its hub will beat or be refused."""
    _, worker, task = held(db, session)
    own = Watch(session(), clock, own_id=worker)
    own.look()
    own.look(after=10 * LEASE)

    assert db.outcomes(task) == []


def test_two_workers_of_one_host_name_are_two(db: Session, session: Sessions, watch: Watch) -> None:
    """Race 7: pods may share a name; a worker's id is new at every start, so the beat of one is not the other's."""
    _, _, silent = held(db, session)
    lively, worker, busy = held(db, session)
    watch.look()
    lively.beat(worker)
    watch.look(after=LEASE - 1)
    watch.look(after=1)

    assert (db.outcomes(silent), db.outcomes(busy)) == (["l"], [])


def test_claims_of_a_deleted_worker_row_are_rescued_after_a_lease(db: Session, session: Sessions, watch: Watch) -> None:
    """Race 7: the row was deleted by hand; its claims are watched in its place, for a whole lease."""
    _, _, task = held(db, session)
    db.ask("DELETE FROM pipeline.worker")
    watch.look()
    watch.look(after=LEASE - 1)
    assert db.outcomes(task) == []

    watch.look(after=1)

    assert db.copies(task) == db.waiting() == 1


@pytest.mark.parametrize("stopped_in", ["transaction", "exchange"])
def test_a_stopped_worker_that_holds_locks_loses_its_sessions_at_the_second_failure(
    db: Session, session: Sessions, watch: Watch, stopped_in: str
) -> None:
    """R: the process stands still between its fence row and COMMIT, or in an exchange. The rescue fails twice, then
    ends the sessions the worker registered, and the next one takes everything back."""
    stopped = session(open_transaction=True)
    task = db.enqueue()
    worker = stopped.register()
    stopped.commit()
    (run,) = db.claim(worker)
    stopped.conclude(worker, run) if stopped_in == "transaction" else _hang(stopped, worker, run)
    watch.look()

    watch.look(after=LEASE)
    assert db.ask("SELECT state FROM pg_stat_activity WHERE pid = %s", stopped.pid) == [("idle in transaction",)]
    watch.look(after=1)
    eventually(lambda: not db.ask("SELECT pid FROM pg_stat_activity WHERE pid = %s", stopped.pid))
    watch.look(after=1)

    assert db.outcomes(task) == ["l"]
    assert db.copies(task) == 1
    with pytest.raises(psycopg2.OperationalError):
        stopped.commit()


def _hang(stopped: Session, worker: int, run: Run) -> None:
    stopped.exchange(worker, done=[run.claim + 1000])


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_rescuers_with_clocks_of_their_own_rescue_each_dead_worker_once(
    db: Session, session: Sessions, clock: Clock, scale: Scale
) -> None:
    """Race 7 at random: lively and silent workers, three rescuers that look in any order. Only the silent are lost."""
    watching = [session() for _ in range(3)]
    for _ in range(3 * scale.factor):
        rescuers = [Watch(each, clock) for each in watching]
        workers = [held(db, session) for _ in range(6)]
        silent = {worker for _, worker, _ in scale.dice.sample(workers, 3)}
        for each in rescuers:
            each.look()
        for _ in range(12):
            clock.now += LEASE / 10
            for hub, worker, _ in workers:
                assert worker in silent or hub.beat(worker)
            for each in scale.dice.sample(rescuers, scale.dice.randint(0, 3)):
                each.look()
        for each in rescuers:
            each.look(after=0)
        assert all(db.outcomes(task) == (["l"] if worker in silent else []) for _, worker, task in workers)
        for hub, _, _ in workers:
            hub.connection.close()
        db.ask("UPDATE pipeline.worker SET state = 's' WHERE state = 'a'")
        db.ask("DELETE FROM pipeline.claim; DELETE FROM pipeline.ready")
