"""A tenant with very many tasks does not keep another one waiting."""

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures.limited_actors import in_turn
from tests.fixtures.program import running
from tests.fixtures.scale import IS_LONG, tell
from tests.fixtures.wait import eventually

LARGE = 100_000 if IS_LONG else 8_000
SMALL, PROCESSES, THREADS = 10, 2, 4
#: What workers may hold already when the small tenant's tasks come: tiny tasks are taken ahead.
HELD = PROCESSES * (1024 + THREADS)
#: What may begin before them: that, and what was claimed by exchanges under way, which do not see them yet.
BEFORE = 2 * HELD
SECONDS = 5
BATCH = 4_000

BETWEEN = """
    WITH small AS (SELECT max(started_at) AS last FROM pipeline.task_status WHERE args->>0 = 'small')
    SELECT extract(epoch FROM last - sent.at)::float8,
           (SELECT count(*) FROM pipeline.attempt a WHERE a.started_at BETWEEN sent.at AND last)
      FROM small, (SELECT min(created_at) AS at FROM pipeline.task_status WHERE args->>0 = 'small') sent
"""


@pytest.mark.stress
@pytest.mark.leaves("worker", "claim")
@pytest.mark.timeout(300)
def test_ten_tasks_wait_for_about_as_many_of_a_tenant_with_very_many(database_url: str, tmp_path: Path) -> None:
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with (
        closing(connection),
        connection.cursor() as cursor,
        closing(PostgresBroker(settings=Settings(database_url=database_url))) as broker,
    ):

        def one(question: str) -> tuple[float, int]:
            cursor.execute(question)
            found: tuple[float, int] = cursor.fetchone()
            return found

        broker.declare_queue("shared")
        for _ in range(0, LARGE, BATCH):
            broker.send_many(
                [in_turn.message_with_options(args=("large",), fairness_key="large") for _ in range(BATCH)]
            )
        arguments = ("worker", "-p", str(PROCESSES), "-t", str(THREADS), "tests.fixtures.limited_actors")
        with running(tmp_path, *arguments, database_url=database_url):
            eventually(lambda: one("SELECT count(*) FROM pipeline.attempt")[0] > LARGE // 8, within=60)
            broker.send_many(
                [in_turn.message_with_options(args=("small",), fairness_key="small") for _ in range(SMALL)]
            )
            eventually(
                lambda: (
                    one("SELECT count(*) FROM pipeline.task_status WHERE args->>0 = 'small' AND state = 'succeeded'")[0]
                    == SMALL
                ),
                within=60,
            )
            left = one("SELECT count(*) FROM pipeline.waiting")[0]
            seconds, between = one(BETWEEN)

    tell(
        f"{SMALL} tasks beside {LARGE}: the last began after {seconds:.2f} s and {between} others; {left} still waited"
    )
    assert left > 0
    assert between <= BEFORE + 4 * SMALL
    assert seconds < SECONDS
