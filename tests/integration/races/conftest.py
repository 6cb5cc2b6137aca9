"""Sessions for races, and the scale of their stress forms."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import psycopg2
import pytest

from pipeline import PostgresBroker
from tests.fixtures.wait import eventually
from tests.integration.races.sessions import Session

HoldUp = Callable[[PostgresBroker], AbstractContextManager[Session]]


@pytest.fixture
def session(database_url: str) -> Iterator[Callable[..., Session]]:
    """Open sessions: in autocommit, or with ``open_transaction=True`` in transactions that the test ends."""
    executor = ThreadPoolExecutor(64)
    opened: list[Session] = []

    def open_session(*, open_transaction: bool = False) -> Session:
        connection = psycopg2.connect(database_url, application_name="race")
        connection.autocommit = not open_transaction
        opened.append(Session(connection, executor))
        return opened[-1]

    yield open_session
    _end_those_that_wait(database_url, opened)
    executor.shutdown(cancel_futures=True)
    for each in opened:
        with suppress(psycopg2.Error):
            each.connection.close()


def _end_those_that_wait(url: str, sessions: list[Session]) -> None:
    """Let no thread of a failed test wait for a lock for ever."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s) AND state = 'active'",
            ([each.pid for each in sessions],),
        )
    connection.close()


@pytest.fixture
def db(session: Callable[..., Session]) -> Session:
    """A session in autocommit, on a database with the lane of the default queue."""
    opened = session()
    opened.lane()
    return opened


@dataclass(frozen=True)
class Scale:
    """How far a stress form goes, and the dice it goes by. The seed is printed; PIPELINE_TEST_SEED plays it again."""

    factor: int
    seed: int
    dice: random.Random


@pytest.fixture
def scale() -> Scale:
    """Small by default, full scale with ``./dev test --long``."""
    seed = int(os.environ.get("PIPELINE_TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"PIPELINE_TEST_SEED={seed}")  # noqa: T201
    factor = 20 if os.environ.get("PIPELINE_TEST_SCALE") == "long" else 1
    return Scale(factor, seed, random.Random(seed))


@pytest.fixture
def hold_up(session: Callable[..., Session], db: Session) -> HoldUp:
    """Make the hub of a broker hang in the database for a block, at its next beat: what ends meanwhile piles up."""

    @contextmanager
    def holding(broker: PostgresBroker) -> Iterator[Session]:
        blocker = session(open_transaction=True)
        blocker.ask("SELECT worker_id FROM pipeline.worker WHERE state = 'a' FOR UPDATE")
        assert broker.hub.is_connected
        hub_pid = broker.hub._identity._connection.info.backend_pid
        eventually(lambda: db.ask("SELECT pid FROM pg_locks WHERE pid = %s AND NOT granted", hub_pid))
        yield blocker
        blocker.commit()

    return holding
