"""The ledger: effects of transactional tasks happen exactly once, whatever is killed when."""

import random
import time
from functools import partial

import psycopg2
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import ledger
from tests.fixtures.broker import global_broker
from tests.fixtures.processes import worker_processes
from tests.fixtures.scale import IS_LONG, choose_seed, tell
from tests.fixtures.wait import eventually

LEASE = {"lease_seconds": 2.0, "beat_seconds": 0.4, "max_losses": 1000}
#: Entries, and how many tasks must be hit inside their transaction and between fence row and reply.
ENTRIES, INSIDE, BETWEEN = (2000, 200, 20) if IS_LONG else (400, 60, 6)


@pytest.mark.stress
@pytest.mark.leaves("worker")
@pytest.mark.timeout(300)
def test_effects_happen_exactly_once_under_kills_stops_and_cut_connections(database_url: str) -> None:
    """Tasks that write, send and conclude in one transaction, under SIGKILL, SIGSTOP and cut sessions."""
    seed = choose_seed()
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(ledger.TABLE)
    settings = Settings(database_url=database_url, **LEASE)
    chance = random.Random(seed)
    started = time.monotonic()
    with (
        global_broker(PostgresBroker(settings=settings)) as broker,
        worker_processes(4, "tests.fixtures.ledger_actors", database_url, threads=8, **LEASE) as processes,
    ):
        broker.declare_queue("default")
        entries = _send(broker, chance, 0, ENTRIES)
        nemesis = ledger.Nemesis(
            processes, database_url, seed, lease_seconds=LEASE["lease_seconds"], enough=(INSIDE, BETWEEN)
        )
        nemesis.start()
        while not nemesis.has_struck_enough:
            eventually(partial(_is_time_for_more, nemesis, database_url, entries), within=60, every=0.2)
            if not nemesis.has_struck_enough:  # too few were hit so far: more work
                entries = _send(broker, chance, entries, entries + 200)
        hits = nemesis.finish()
        eventually(lambda: _left(database_url, entries) == 0, within=60, every=0.2)
        tell(f"ledger: {entries} entries in {time.monotonic() - started:.0f} s; {hits}")
        for process in processes:
            process.end()

    ledger.check(database_url, entries)
    assert hits.inside >= INSIDE, f"only {hits}: the run proves too little"
    assert hits.between >= BETWEEN, f"only {hits}: the run proves too little"


def _send(broker: PostgresBroker, chance: random.Random, first: int, end: int) -> int:
    from tests.fixtures.ledger_actors import book

    broker.send_many([book.message(entry, chance.uniform(0.02, 0.2)) for entry in range(first, end)])
    return end


def _is_time_for_more(nemesis: ledger.Nemesis, url: str, entries: int) -> bool:
    return nemesis.has_struck_enough or _left(url, entries) < 100


def _left(url: str, entries: int) -> int:
    return entries - ledger.count(url, "SELECT count(*) FROM ledger WHERE kind = 'confirmed'")
