"""An import that commits step by step goes on after its last step, wherever it was killed."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import DateTime
from sqlalchemy.orm import Session

from actors.datasets import import_orders, store_dataset
from actors.models import ErpTable, Order, create_erp_engine, create_tables
from actors.order_csv import COLUMNS
from pipeline import PostgresBroker, enlist
from pipeline.settings import Settings
from tests.fixtures.broker import global_broker
from tests.fixtures.database import query
from tests.fixtures.program import running
from tests.fixtures.scale import IS_LONG, choose_seed, tell
from tests.fixtures.wait import eventually

LINES, KILLS, WITHIN = (200_000, 5, 1_200) if IS_LONG else (4_000, 3, 90)
#: Whoever is in the middle of a step when it is looked at.
INSIDE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"

HAS_ENDED = (
    "SELECT count(*) FROM pipeline.attempt_history WHERE actor = 'import_orders' AND outcome IN ('succeeded', 'failed')"
)
HISTORY = "SELECT string_agg(outcome, ' ' ORDER BY run) FROM pipeline.attempt_history WHERE actor = 'import_orders'"
RESULT = "SELECT result::text FROM pipeline.task_status WHERE actor = 'import_orders'"
#: The first task of an order's chain belongs to the step that made the order.
SENT = """
    SELECT count(*) = count(DISTINCT o.id) AND count(*) = (SELECT count(*) FROM erp.sales_order)
      FROM pipeline.task t JOIN erp.sales_order o ON o.id = (t.payload->'args'->>0)::bigint WHERE t.actor = 'process_order'
"""


@pytest.mark.stress
@pytest.mark.timeout(2 * WITHIN + 120)
@pytest.mark.leaves("worker")
def test_an_import_that_is_killed_again_and_again_ends_as_one_that_nobody_disturbed(
    database_url: str, another_database_url: Callable[[], str], tmp_path: Path
) -> None:
    """Each time at a random moment, by SIGKILL: the product's own settings, which take the third loss for poison, too."""
    chance = random.Random(choose_seed())
    content = orders_file(chance)
    undisturbed_url = another_database_url()

    undisturbed = run_import(undisturbed_url, content, tmp_path, lambda: None)
    killer = Killer(database_url, chance, undisturbed)
    disturbed = run_import(database_url, content, tmp_path, killer.strike)

    lost = str(query(database_url, HISTORY)).split().count("lost")
    tell(
        f"{LINES:,} lines: {undisturbed:.1f} s undisturbed, {disturbed:.1f} s with {killer.strikes} kills, "
        f"{killer.inside} of them inside an open step; {lost} runs lost"
    )
    assert query(undisturbed_url, HISTORY) == "succeeded"
    assert query(database_url, HISTORY) == "lost " * KILLS + "succeeded"
    assert query(database_url, RESULT) == query(undisturbed_url, RESULT)
    assert contents(database_url) == contents(undisturbed_url)
    assert query(database_url, SENT) is True


class Killer:
    """Kills the process that imports, a random while after each of its runs has begun."""

    def __init__(self, url: str, chance: random.Random, undisturbed_seconds: float) -> None:
        self._url = url
        self._chance = chance
        #: So that the import cannot be over before it was killed often enough.
        self._longest_seconds = undisturbed_seconds / (KILLS + 1)
        self.strikes = 0
        #: How often the process was in the middle of a transaction.
        self.inside = 0

    def strike(self) -> None:
        for run in range(1, KILLS + 1):
            eventually(lambda run=run: query(self._url, "SELECT max(run) FROM pipeline.checkpoint") == run, within=60)
            moment = time.monotonic() + self._chance.uniform(0, self._longest_seconds)
            eventually(lambda moment=moment: time.monotonic() >= moment, within=WITHIN)
            pid = int(str(query(self._url, "SELECT pid FROM pipeline.worker WHERE state = 'a'")))
            os.kill(pid, signal.SIGSTOP)
            self.inside += bool(query(self._url, INSIDE))
            os.kill(pid, signal.SIGKILL)
            self.strikes += 1


def run_import(url: str, content: bytes, place: Path, meanwhile: Callable[[], None]) -> float:
    """Upload a file and let ``pipeline worker`` import it; return how many seconds that took."""
    create_tables(url)
    upload(url, content)
    directory = place / url.rpartition("/")[2].partition("?")[0]
    directory.mkdir()
    with running(directory, "worker", "-p", "1", "-t", "2", "-Q", "imports", "actors", database_url=url) as program:
        eventually(lambda: query(url, "SELECT count(*) FROM pipeline.checkpoint"), within=60)
        began = time.monotonic()
        meanwhile()
        eventually(lambda: query(url, HAS_ENDED), within=WITHIN, every=0.1)
        seconds = time.monotonic() - began
        program.signal(signal.SIGTERM)
        assert program.end() == 0
    return seconds


def upload(url: str, content: bytes) -> None:
    engine = create_erp_engine(url)
    with (
        global_broker(PostgresBroker(settings=Settings(database_url=url))) as broker,
        Session(engine) as session,
        session.begin(),
        enlist(session),
    ):
        broker.declare_queue("imports")
        dataset_id = store_dataset(session, "orders.csv", io.BytesIO(content))
        broker.enqueue(import_orders.message(dataset_id))
    engine.dispose()


def orders_file(chance: random.Random) -> bytes:
    """Write a file in which some rows are bad: unreadable, of an unknown article, or of an order that stands there already."""
    lines = [";".join(COLUMNS)]
    for number in range(LINES):
        article = chance.choice(
            ["A-1001", "A-1005", "A-1010", "A-1003", "X-9"] if number % 50 == 0 else ["A-1002", "A-1007"]
        )
        wanted = chance.randrange(number + 1) if number % 97 == 0 else number
        price = f"{chance.randrange(1, 3_000)},{chance.randrange(100):02}"
        line = f"B-{wanted:07};Kunde {number % 1_000};kunde{number}@firma.example;{article};{chance.randrange(1, 20)};{price};31.12.2026"
        lines.append("unsinn" if number % 211 == 0 else line)
    return "\n".join(lines).encode()


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read all business tables, without what differs from one import to the next: times, and the numbers of a sequence."""
    found = {}
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        for table in ErpTable.metadata.sorted_tables:
            columns = [
                column.name
                for column in table.columns
                if not isinstance(column.type, DateTime) and not (table is Order.__table__ and column.primary_key)
            ]
            cursor.execute(f"SELECT {', '.join(columns)} FROM erp.{table.name}")
            found[table.name] = sorted(cursor.fetchall(), key=repr)
    assert len(found["sales_order"]) > LINES * 0.95
    assert len(found["row_rejection"]) > LINES / 211
    return found
