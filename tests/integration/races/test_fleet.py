"""One worker among many: how often it looks, whether it listens, and what it leaves to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.maintenance.caretaker import Caretaker
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.wait import eventually
from tests.integration.races.sessions import Session

Sessions = Callable[..., Session]

#: The longest pause of a large fleet with the beat of QUICK.
LONGEST = QUICK["beat_seconds"] / 2
SLACK = 1.5


def add_workers(db: Session, count: int, queues: str = "{default}") -> None:
    """Register workers that never fall silent."""
    db.ask(
        "SELECT pipeline.register_worker_v1('elsewhere', n, 8, %s, '{}') FROM generate_series(1, %s) n", queues, count
    )
    db.ask("UPDATE pipeline.worker SET beat_at = 'infinity' WHERE host = 'elsewhere' RETURNING 1")


@pytest.fixture(autouse=True)
def ended(db: Session) -> Iterator[None]:
    yield
    end_workers(db)


def end_workers(db: Session) -> None:
    db.ask("UPDATE pipeline.worker SET state = 's' WHERE host = 'elsewhere' RETURNING 1")


def caretaker_of(broker: PostgresBroker) -> Caretaker:
    caretaker = broker.engine._caretaker
    assert caretaker is not None
    return caretaker


@pytest.fixture
def noop(broker: PostgresBroker) -> dramatiq.Actor:
    @dramatiq.actor
    def noop() -> None:
        pass

    return noop


def has_run(db: Session, sent: dramatiq.Message) -> Callable[[], bool]:
    return lambda: db.outcomes(sent.message_id) == ["s"]


def standing(db: Session, worker: int, queues: str = "{default}") -> tuple[int, int, int]:
    return db.ask("SELECT * FROM pipeline.standing_v1(%s, %s, 10000)", worker, queues)[0]


def test_only_those_that_could_take_a_task_of_ours_are_counted_as_free(db: Session) -> None:
    add_workers(db, 9)
    ids = [row[0] for row in db.ask("SELECT worker_id FROM pipeline.worker ORDER BY 1")]
    change = "UPDATE pipeline.worker SET {} WHERE worker_id = %s RETURNING 1"
    db.ask(change.format("running = ARRAY(SELECT generate_series(1, 8))"), ids[0])
    db.ask(change.format("drain_at = now()"), ids[1])
    db.ask(change.format("queues = '{another}'"), ids[2])
    assert standing(db, ids[5]) == (5, 5, 2)
    db.ask(change.format("beat_at = now() - interval '11 s'"), ids[3])
    db.ask(change.format("state = 'd'"), ids[6])

    assert standing(db, ids[5]) == (4, 3, 1)
    assert standing(db, ids[2], "{another}") == (2, 0, 0)


def test_among_many_a_worker_looks_less_often_and_lets_others_listen(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor
) -> None:
    """And still finds a task that nobody wakes it for."""
    add_workers(db, 30)
    with working(broker):
        eventually(lambda: broker.hub._poll_seconds == LONGEST)
        eventually(lambda: not caretaker_of(broker)._is_listening)

        eventually(has_run(db, noop.send()), within=SLACK)


def test_the_first_of_many_listens(broker: PostgresBroker, db: Session, noop: dramatiq.Actor) -> None:
    with working(broker):
        eventually(lambda: broker.hub.worker_id)
        add_workers(db, 30)
        eventually(lambda: broker.hub.fleet.longest_pause == LONGEST)

        assert broker.hub.fleet.listens
        assert eventually(lambda: caretaker_of(broker)._is_listening)


def test_a_worker_that_remains_listens_again_and_takes_over_the_duties(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor
) -> None:
    """Also a duty that it had put off for long."""
    add_workers(db, 30)
    with working(broker):
        caretaker = caretaker_of(broker)
        eventually(lambda: not caretaker._is_listening and len(caretaker._rests) == len(caretaker._duties))
        shared = [duty for duty in caretaker._duties if duty.doers < 30]  # the others are each worker's own
        put_off = [caretaker._due(duty) for duty in shared]
        end_workers(db)
        eventually(lambda: caretaker._is_listening)

        assert all(caretaker._due(duty) < before for duty, before in zip(shared, put_off, strict=True))
        assert broker.hub.fleet.longest_pause == QUICK["poll_max_ms"] / 1000


def test_workers_of_a_queue_of_its_own_listen_however_many_there_are_of_others(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor
) -> None:
    add_workers(db, 30, "{another}")
    with working(broker):
        eventually(lambda: broker.hub.fleet.patience(1) > 1)

        assert broker.hub.fleet.listens
        assert broker.hub.fleet.longest_pause == QUICK["poll_max_ms"] / 1000


def test_a_wake_up_is_one_look(database_url: str, db: Session) -> None:
    """Whoever is woken and finds nothing does not look again and again: another one has taken the task."""
    settings = Settings(
        database_url=database_url, **QUICK | {"poll_max_ms": 60_000, "beat_seconds": 30.0, "lease_seconds": 90.0}
    )
    with global_broker(PostgresBroker(settings=settings)) as broker, working(broker):
        hub, waits, has_waited = broker.hub, list[float](), Event()
        eventually(lambda: hub._poll_seconds >= 1)
        real = hub._inbox.wait

        def wait(seconds: float) -> object:
            waits.append(seconds)
            has_waited.set()
            return real(seconds)

        hub._inbox.wait = wait  # type: ignore[method-assign]
        hub.wake()
        assert has_waited.wait(5)

        assert waits[0] >= 0.8
