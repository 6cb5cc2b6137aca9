"""Tasks go where threads are free: none waits in a process that is busy while another one has nothing to do."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.acceptance.supervisor.conftest import ACTORS, Start
from tests.fixtures import program_actors
from tests.fixtures.database import query
from tests.fixtures.program import Program
from tests.fixtures.scale import IS_LONG
from tests.fixtures.wait import eventually

UNFINISHED = "SELECT count(*) FROM pipeline.task_status WHERE state <> 'succeeded'"


@pytest.fixture
def broker(database_url: str) -> Iterator[PostgresBroker]:
    with closing(PostgresBroker(settings=Settings(database_url=database_url))) as broker:
        broker.declare_queue("held")
        yield broker


def send(broker: PostgresBroker, *seconds: float) -> list[str]:
    messages = broker.send_many([program_actors.nap.message(each) for each in seconds])
    return [str(message.message_id) for message in messages]


@pytest.fixture
def worker(start: Start, broker: PostgresBroker, database_url: str) -> Iterator[Program]:
    """Two processes with two threads each that have learnt that tasks are tiny, and so take many at a time."""
    worker = start("-p", "2", "-t", "2", ACTORS)
    eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.worker") == 2, within=40)
    send(broker, *[0.0] * 2_000)
    eventually(lambda: query(database_url, UNFINISHED) == 0, within=60)
    yield worker
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_short_tasks_do_not_wait_behind_long_ones(worker: Program, broker: PostgresBroker, database_url: str) -> None:
    """Three threads of the four are occupied; what waits beside them goes to the fourth."""
    long, short = (10.0 if IS_LONG else 4.0), 0.01
    for _ in range(2):
        send(broker, long)
        shorts = send(broker, *[short] * 15, long, *[short] * 15, long, *[short] * 30)
        is_short = [task_id for number, task_id in enumerate(shorts) if number not in {15, 31}]

        eventually(lambda: query(database_url, UNFINISHED) == 0, within=3 * long + 20)

        waited = query(
            database_url,
            "SELECT max(extract(epoch FROM a.started_at - t.created_at))::float8 FROM pipeline.attempt_history a"
            " JOIN pipeline.task_status t USING (task_id) WHERE a.outcome = 'succeeded' AND task_id = ANY (%s::uuid[])",
            (is_short,),
        )
        assert float(str(waited)) < long - 1


def test_tasks_that_turn_out_to_be_no_longer_tiny_are_shared(
    worker: Program, broker: PostgresBroker, database_url: str
) -> None:
    ids = send(broker, *[0.02] * 300)

    eventually(lambda: query(database_url, UNFINISHED) == 0, within=30)

    shares = query(
        database_url,
        "SELECT json_agg(n)::text FROM (SELECT count(*) AS n FROM pipeline.attempt_history"
        " WHERE outcome = 'succeeded' AND task_id = ANY (%s::uuid[]) GROUP BY worker_id) shares",
        (ids,),
    )
    assert min(json.loads(str(shares))) >= 75
    assert len(json.loads(str(shares))) == 2
