"""The ledger: effects of transactional tasks happen exactly once, whatever is killed when."""

import os
import random
import time

import psycopg2
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import ledger
from tests.fixtures.broker import global_broker
from tests.fixtures.processes import worker_processes
from tests.fixtures.wait import eventually

LEASE = {"lease_seconds": 2.0, "beat_seconds": 0.4, "max_losses": 1000}
IS_LONG = os.environ.get("PIPELINE_TEST_SCALE") == "long"
#: Entries, and how many tasks must be hit inside their transaction and between fence row and reply.
ENTRIES, INSIDE, BETWEEN = (2000, 200, 20) if IS_LONG else (400, 60, 6)


@pytest.mark.stress
@pytest.mark.leaves("worker")
@pytest.mark.timeout(300)
def test_effects_happen_exactly_once_under_kills_stops_and_cut_connections(database_url: str) -> None:
    """Tasks that write, send and conclude in one transaction, under SIGKILL, SIGSTOP past the lease, and cut sessions."""
    seed = int(os.environ.get("PIPELINE_TEST_SEED") or random.randrange(1_000_000))
    print(f"\nledger: PIPELINE_TEST_SEED={seed}")
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(ledger.TABLE)
    settings = Settings(database_url=database_url, **LEASE)
    with global_broker(PostgresBroker(settings=settings)) as broker:
        from tests.fixtures.ledger_actors import book

        broker.declare_queue("default")
        chance = random.Random(seed)
        messages = [book.message(entry, chance.uniform(0.02, 0.2)) for entry in range(ENTRIES)]
        broker.send_many(messages)

    started = time.monotonic()
    with worker_processes(4, "tests.fixtures.ledger_actors", database_url, threads=8, **LEASE) as processes:
        nemesis = ledger.Nemesis(
            processes, database_url, seed, lease_seconds=LEASE["lease_seconds"], enough=(INSIDE, BETWEEN)
        )
        nemesis.start()
        eventually(lambda: nemesis.has_struck_enough or _left(database_url) == 0, within=200, every=0.2)
        hits = nemesis.finish()
        eventually(lambda: _left(database_url) == 0, within=60, every=0.2)
        print(f"ledger: {ENTRIES} entries in {time.monotonic() - started:.0f} s; {hits}")
        for process in processes:
            process.end()

    ledger.check(database_url, ENTRIES)
    assert hits.inside >= INSIDE, f"only {hits}: the run proves too little"
    assert hits.between >= BETWEEN, f"only {hits}: the run proves too little"


def _left(url: str) -> int:
    finished = ledger.count(url, "SELECT count(*) FROM ledger WHERE kind = 'confirmed'")
    return ENTRIES - finished
