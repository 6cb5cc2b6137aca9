"""How many statements and transactions things take, counted on the wire."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg2
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import pipeline
from pipeline import PostgresBroker
from pipeline.broker.fleet import Fleet
from pipeline.broker.identity import Identity
from pipeline.broker.outcome import as_arguments
from pipeline.db.dsn import Dsn
from pipeline.settings import Settings
from tests.benchmarks.guard.baseline import Figure, Figures, Kind
from tests.benchmarks.guard.effort import TEXT, declared, labelled
from tests.benchmarks.relay import Conversation, Relay, relayed
from tests.fixtures.broker import global_broker, working

#: Fewer than a process may send without a NOTIFY that trails behind.
_SENDS = 10
_TASKS = 20


def measure(url: str) -> Figures:
    """Measure in a database in which nothing else happens."""
    with relayed(url) as relay, global_broker(PostgresBroker(settings=Settings(database_url=relay.url))) as broker:
        found = _sends(broker, relay) | _exchanges(broker, relay) | _transactional(broker, relay)
    return {name: Figure(Kind.COUNT, value) for name, value in found.items()}


def _spent(relay: Relay, before: tuple[int, int]) -> tuple[int, int]:
    return relay.round_trips - before[0], relay.transactions - before[1]


def _now(relay: Relay) -> tuple[int, int]:
    return relay.round_trips, relay.transactions


def _sends(broker: PostgresBroker, relay: Relay) -> dict[str, float]:
    noop = declared(broker)
    noop.send(0, TEXT)  # makes the lane and opens the connection
    noop.send(0, TEXT)  # prepares
    before = _now(relay)
    for number in range(_SENDS):
        noop.send(number, TEXT)
    trips, commits = _spent(relay, before)
    before = _now(relay)
    broker.send_many([noop.message(number, TEXT) for number in range(100)])
    trips_of_many, commits_of_many = _spent(relay, before)
    before = _now(relay)
    broker.enqueue(labelled(noop, 0))
    labelled_trips, _ = _spent(relay, before)
    before = _now(relay)
    broker.send_many([labelled(noop, number) for number in range(100)])
    labelled_trips_of_many, _ = _spent(relay, before)
    return {
        "send: round trips": trips / _SENDS,
        "send: commits": commits / _SENDS,
        "send_many of 100: round trips": trips_of_many,
        "send_many of 100: commits": commits_of_many,
        "labelled send: round trips": labelled_trips,
        "labelled send_many of 100: round trips": labelled_trips_of_many,
        "10 sends in a psycopg2 transaction, at_exit: more round trips": _enlisted(broker, noop, relay),
        "10 sends in a SQLAlchemy session: more round trips": _in_session(broker, noop, relay),
    }


def _enlisted(broker: PostgresBroker, noop: Any, relay: Relay) -> int:
    with closing(psycopg2.connect(relay.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        before = _now(relay)
        with broker.enlist(connection, at_exit=True):
            for number in range(10):
                noop.send(number, TEXT)
        trips, _ = _spent(relay, before)
        connection.commit()
    return trips


def _in_session(broker: PostgresBroker, noop: Any, relay: Relay) -> int:
    engine = create_engine(Dsn.parse(relay.url).sqlalchemy, poolclass=NullPool)
    with Session(engine) as session:
        session.execute(text("SELECT 'this session'"))
        (own,) = [each for each in relay.conversations if each.says("this session")]
        before = own.round_trips
        with broker.enlist(session):
            for number in range(10):
                noop.send(number, TEXT)
        session.commit()
        trips = own.round_trips - before - 1  # without its own COMMIT
    engine.dispose()
    return trips


def _exchanges(broker: PostgresBroker, relay: Relay) -> dict[str, float]:
    identity = Identity(broker, 8, Fleet(broker.settings))
    identity.connect([])
    arguments = as_arguments([]) | {"done_claims": "{}", "queues": ["bench"], "want": 1}
    arguments |= {"floor_lanes": None, "floors": None, "turn": None}
    before = _now(relay)
    for _ in range(_SENDS):
        identity.exchange(arguments)
    trips, commits = _spent(relay, before)
    identity.end()
    identity.disconnect()
    return {"exchange: round trips": trips / _SENDS, "exchange: commits": commits / _SENDS}


def _transactional(broker: PostgresBroker, relay: Relay) -> dict[str, float]:
    @pipeline.actor(queue_name="owned", max_retries=0, transactional=True, broker=broker)
    def book(number: int) -> None:
        """Write nothing, but ask for it."""
        pipeline.current_task().cursor().execute("SELECT %s", (number,))

    before = len(relay.conversations)
    broker.send_many([book.message(number) for number in range(_TASKS)])
    with working(broker, threads=2, queues={"owned"}):
        broker.join("owned", timeout=30_000)
    owned = [each for each in relay.conversations[before:] if each.says("seal_v1")]
    trips = sum(each.round_trips - _registrations(each) for each in owned)
    commits = sum(each.transactions - _registrations(each) for each in owned)
    return {"transactional task: round trips": trips / _TASKS, "transactional task: commits": commits / _TASKS}


def _registrations(conversation: Conversation) -> int:
    """Count what a connection costs once: it is registered, looked at, and its last statement prepared."""
    once = (b"register_backend_v1", b"SELECT pg_backend_pid()", b"PREPARE seal_v1")
    return sum(any(each in statement for each in once) for statement in conversation.statements)
