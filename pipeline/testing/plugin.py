"""Fixtures for pytest: ``pytest_plugins = ["pipeline.testing.plugin"]`` in the conftest.py at the root of the tests.

Not registered by itself: whoever installs the task queue need not want it in his tests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg2 import sql

from pipeline.broker.broker import PostgresBroker
from pipeline.db import embedded
from pipeline.db.connection import connect
from pipeline.db.migrate import migrate
from pipeline.settings import get_settings
from pipeline.testing.database import bound, broker_in_use, reset


@pytest.fixture(scope="session")
def pipeline_database_url() -> Iterator[str]:
    """The database of the tests: that in DATABASE_URL, or else a server made for this run. Override it at will."""
    settings = get_settings()
    if settings.database_url is not None:
        yield settings.database_url
        return
    with (
        tempfile.TemporaryDirectory(prefix="pipeline-testing-", ignore_cleanup_errors=True) as home,
        embedded.start(Path(home), durable=False, pg_bin=settings.pg_bin) as server,
    ):
        yield server.url


@pytest.fixture(scope="session")
def pipeline_schema(pipeline_database_url: str) -> Iterator[str]:
    """The schema of the task queue for this run, made and migrated now and dropped at the end: no other is touched."""
    name = f"pipeline_test_{uuid4().hex[:12]}"
    try:
        migrate(pipeline_database_url, name)
        yield name
    finally:
        with closing(connect(pipeline_database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
def pipeline_broker(pipeline_database_url: str, pipeline_schema: str) -> Iterator[PostgresBroker]:
    """The broker of the application's actors, bound to the tests' database, in which no task is."""
    broker_in_use()
    with bound(pipeline_database_url, schema=pipeline_schema) as broker:
        reset()
        yield broker
