"""The rights that the documentation grants are enough for an application and its workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dramatiq
import psycopg2
import pytest

import pipeline
from pipeline import PostgresBroker, current_task
from pipeline.db.dsn import Dsn
from pipeline.db.sources import ROOT, render
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker, working

PAGE = Path(__file__).parents[3] / "docs/howto/run-in-production.md"

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def role(rows: Rows) -> Iterator[str]:
    """The workers' role, made by the statements of the page."""
    suffix = uuid4().hex[:8]
    worker, web = f"erp_worker_{suffix}", f"erp_web_{suffix}"
    (block,) = re.findall(r"(?ms)^```sql\n(CREATE ROLE .*?)^```", PAGE.read_text())
    rows(render((ROOT / "roles.sql").read_text(), "pipeline"))
    rows(block.replace("erp_worker", worker).replace("erp_web", web).replace(" LOGIN;", " LOGIN PASSWORD 'secret';"))
    rows(f"CREATE TABLE written (by text); GRANT INSERT ON written TO {worker}")
    yield worker
    rows(f"DROP OWNED BY {worker}, {web}; DROP ROLE {worker}, {web}")


@pytest.fixture
def broker(role: str, database_url: str) -> Iterator[PostgresBroker]:
    dsn = Dsn.parse(database_url)
    url = dsn.libpq.replace(f"{dsn.user}:{dsn.password}@", f"{role}:secret@")
    with global_broker(PostgresBroker(settings=Settings(database_url=url, **QUICK))) as made:
        yield made


def test_an_application_and_its_workers_need_no_more(broker: PostgresBroker, rows: Rows, role: str) -> None:
    @dramatiq.actor(transactional=True)
    def write() -> None:
        current_task().cursor().execute("INSERT INTO written VALUES (current_user)")
        current_task().progress(50, "half way")

    with working(broker):
        write.send().get_result(block=True)
    cancelled = write.send_with_options(delay=60_000).message_id
    pipeline.cancel(cancelled, who="somebody")

    assert rows("SELECT by FROM written") == [(role,)]
    assert rows("SELECT state FROM pipeline.task_status ORDER BY id") == [("succeeded",), ("cancelled",)]


def test_it_cannot_write_into_the_tables(broker: PostgresBroker) -> None:
    with (
        broker.pool.connection() as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.Error, match="denied"),
    ):
        cursor.execute("INSERT INTO pipeline.ready VALUES (1, clock_timestamp(), 1, 1)")
