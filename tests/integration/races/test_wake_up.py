"""Race 3: a NOTIFY is a hint. Whatever becomes of it, a task starts within the poll interval."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from threading import Event

import dramatiq
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session as OrmSession

from pipeline import PostgresBroker
from pipeline.db.dsn import Dsn
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Session

Sessions = Callable[..., Session]

#: The poll interval of these workers is 50 ms; the rest is for a slow machine. Far less than a poll that never comes.
SLACK = 1.5


class Listener:
    """A session that hears what workers hear."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection
        session.ask("LISTEN pipeline")

    def heard(self, within: float = 0.0) -> bool:
        if select.select([self._connection], [], [], within)[0]:
            self._connection.poll()
        was_heard = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return was_heard


@pytest.fixture
def listener(session: Sessions) -> Listener:
    return Listener(session())


@pytest.fixture
def noop(broker: PostgresBroker) -> dramatiq.Actor:
    @dramatiq.actor
    def noop() -> None:
        pass

    return noop


@pytest.fixture
def silent(broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is empty, and whose trailing NOTIFY never comes."""
    monkeypatch.setattr(broker.notifier, "take", lambda: False)
    monkeypatch.setattr(broker.notifier, "notify_soon", lambda: None)


def has_run(db: Session, sent: dramatiq.Message) -> Callable[[], bool]:
    return lambda: db.outcomes(sent.message_id) == ["s"]


def end_listener(broker: PostgresBroker, db: Session) -> None:
    caretaker = broker.engine._caretaker
    assert caretaker is not None
    connection = eventually(lambda: caretaker._connection)
    db.ask("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)


def test_without_any_hint_a_task_starts_within_the_poll_interval(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor, silent: None
) -> None:
    """Race 3: the hint was suppressed. Polling is the guarantee, and it does not slow down over time."""
    with working(broker):
        for _ in range(3):
            eventually(lambda: broker.hub._poll_seconds >= QUICK["poll_max_ms"] / 1000)  # as idle as it gets
            eventually(has_run(db, noop.send()), within=SLACK)


def test_a_task_committed_between_an_empty_look_and_the_wait_starts_within_the_poll_interval(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor, silent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Race 3: the hub has looked and found nothing; before it waits, the task is committed, unannounced."""
    looked, go = Event(), Event()
    with working(broker):
        hub = broker.hub
        real = hub._inbox.wait

        def pause(seconds: float) -> object:
            looked.set()
            assert go.wait(10)
            return real(seconds)

        monkeypatch.setattr(hub._inbox, "wait", pause)
        assert looked.wait(5)
        sent = noop.send()
        go.set()
        eventually(has_run(db, sent), within=SLACK)


def test_a_task_sent_while_the_listener_is_away_starts_within_the_poll_interval(
    broker: PostgresBroker, db: Session, noop: dramatiq.Actor
) -> None:
    """Race 3: the NOTIFY is sent while the caretaker's session is gone, and nobody ever hears it."""
    with working(broker):
        end_listener(broker, db)
        eventually(has_run(db, noop.send()), within=SLACK)


def test_without_a_listener_at_all_tasks_start_within_the_poll_interval(database_url: str, db: Session) -> None:
    """Behind a pooler nobody can LISTEN."""
    with global_broker(PostgresBroker(settings=Settings(database_url=database_url, listen=False, **QUICK))) as broker:

        @dramatiq.actor
        def noop() -> None:
            pass

        with working(broker):
            eventually(lambda: broker.hub._poll_seconds >= QUICK["poll_max_ms"] / 1000)
            eventually(has_run(db, noop.send()), within=SLACK)


def test_a_hint_that_is_rolled_back_with_its_token_does_no_harm(
    broker: PostgresBroker, db: Session, session: Sessions, listener: Listener, noop: dramatiq.Actor
) -> None:
    """Race 3: the transaction that spent the token and notified is rolled back; the next task has no token left."""
    loser = session(open_transaction=True)
    loser.enqueue()
    loser.ask("SELECT pg_notify('pipeline', '')")
    loser.rollback()
    assert not listener.heard(0.05)
    broker.notifier._tokens, broker.notifier._refilled_at = 0.0, _far_ahead()
    with working(broker):
        eventually(has_run(db, noop.send()), within=SLACK)


def _far_ahead() -> float:
    """A bucket refilled then gets nothing until then."""
    return time.monotonic() + 3600


def test_with_a_token_a_send_notifies_in_its_own_commit_and_without_one_a_trailing_notify_follows(
    broker: PostgresBroker, listener: Listener, noop: dramatiq.Actor
) -> None:
    """The hint is not lost when the bucket is empty; it comes once for all who found it so."""
    noop.send()
    assert listener.heard(2)

    broker.notifier._tokens, broker.notifier._refilled_at = -1e6, _far_ahead()
    noop.send()
    assert listener.heard(2)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_no_notify_within_a_business_transaction_of_psycopg2(
    broker: PostgresBroker, db: Session, session: Sessions, listener: Listener, noop: dramatiq.Actor, end: str
) -> None:
    """R an enlisted send never notifies inside: NOTIFY takes a lock of the whole server at commit. The transaction has
    nothing queued for it, and not even its commit is heard."""
    business = session(open_transaction=True)
    broker.sender.ensure_lanes([("default", 0)])
    with broker.enlist(business.connection):
        noop.send()
        noop.send()
    assert db.waiting() == 0
    getattr(business, end)()

    assert not listener.heard(0.1)
    assert db.waiting() == (2 if end == "commit" else 0)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_enlisted_sqlalchemy_session_is_announced_after_its_commit_only(
    broker: PostgresBroker, database_url: str, db: Session, listener: Listener, noop: dramatiq.Actor, end: str
) -> None:
    """R nothing is heard before the commit, nor after a rollback; after the commit a NOTIFY of its own follows, in
    another transaction."""
    engine = create_engine(Dsn.parse(database_url).sqlalchemy)
    with OrmSession(engine) as business:
        with broker.enlist(business):
            noop.send()
            business.flush()
        assert not listener.heard(0.1)
        getattr(business, end)()
        assert db.waiting() == (end == "commit")
    engine.dispose()

    assert listener.heard(2 if end == "commit" else 0.1) == (end == "commit")


def test_the_sql_function_does_not_notify(db: Session, listener: Listener) -> None:
    """R from psql or a trigger, in whatever transaction: never."""
    db.value("SELECT pipeline.enqueue('any', queue => 'default')")

    assert not listener.heard(0.1)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_every_task_starts_in_time_whatever_happens_to_hints(
    broker: PostgresBroker, db: Session, session: Sessions, noop: dramatiq.Actor, scale: Scale
) -> None:
    """Race 3 at random: tokens vanish, listeners are killed, transactions that notified roll back."""
    loser = session(open_transaction=True)
    with working(broker):
        for _ in range(15 * scale.factor):
            if scale.dice.random() < 0.5:
                broker.notifier._tokens, broker.notifier._refilled_at = 0.0, _far_ahead()
            if scale.dice.random() < 0.2:
                end_listener(broker, db)
            if scale.dice.random() < 0.3:
                loser.enqueue()
                loser.ask("SELECT pg_notify('pipeline', '')")
                loser.rollback()
            eventually(has_run(db, noop.send()), within=SLACK)
