"""A lost worker group: nothing is lost with it, little runs twice, and it does not take long."""

import os
import signal
import time

import psycopg2
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import ledger
from tests.fixtures.broker import global_broker
from tests.fixtures.processes import worker_processes
from tests.fixtures.scale import IS_LONG, tell
from tests.fixtures.wait import eventually

#: The default lease is 30 s; the quick rescue needs a rescuer that has watched for one whole lease.
LEASE = {"lease_seconds": 30.0, "beat_seconds": 5.0} if IS_LONG else {"lease_seconds": 6.0, "beat_seconds": 1.0}
TASKS, SECONDS, THREADS = 1000, 0.05, 8


@pytest.mark.stress
@pytest.mark.leaves("worker")
@pytest.mark.timeout(200)
def test_after_the_kill_of_one_of_two_groups_everything_is_done_within_ten_seconds(database_url: str) -> None:
    """Only what was in flight runs twice; on direct connections nobody waits for the lease."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(ledger.TABLE)
    settings = Settings(database_url=database_url, **LEASE)
    with (
        global_broker(PostgresBroker(settings=settings)) as broker,
        worker_processes(2, "tests.fixtures.ledger_actors", database_url, threads=THREADS, **LEASE) as groups,
    ):
        from tests.fixtures.ledger_actors import note

        broker.declare_queue("default")
        eventually(lambda: ledger.count(database_url, "SELECT count(*) FROM pipeline.worker") == 2, within=20)
        _watch_for_a_lease(database_url)
        broker.send_many([note.message(entry, SECONDS) for entry in range(TASKS)])
        eventually(lambda: _done(database_url) >= TASKS // 2, within=60, every=0.05)
        os.kill(groups[0].pid, signal.SIGKILL)
        killed_at = time.monotonic()

        eventually(lambda: _done(database_url) == TASKS, within=30, every=0.05)

        seconds = time.monotonic() - killed_at
        runs = ledger.count(database_url, "SELECT count(*) FROM ledger")
        tell(f"loss of a group: all {TASKS} done {seconds:.1f} s after the kill, {runs - TASKS} runs were repeated")
        groups[1].end()
    assert seconds < 10
    assert runs - TASKS <= THREADS


def _watch_for_a_lease(url: str) -> None:
    """Let the surviving group watch the other for one lease and a bit."""
    started = time.monotonic()
    eventually(lambda: time.monotonic() - started > LEASE["lease_seconds"] + 1, within=60, every=0.5)


def _done(url: str) -> int:
    question = "SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'"
    return ledger.count(url, question)
