import re
import subprocess
import threading
from contextlib import closing

import psycopg2
import pytest

from tests.fixtures import database, leaks


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(leaks, "_GRACE_SECONDS", 0.1)


def test_a_quiet_database_passes(database_url):
    leaks.check_database(database_url)


def test_an_open_transaction_is_found(database_url):
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")

        with pytest.raises(pytest.fail.Exception, match="transaction"):
            leaks.check_database(database_url)
        leaks.check_database(database_url, allowed=["transaction"])


@pytest.mark.parametrize("table", ["claim", "worker"])
def test_a_row_that_says_somebody_works_is_found(empty_database_url, table):
    with closing(psycopg2.connect(empty_database_url)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA pipeline; CREATE TABLE pipeline.{table} AS SELECT 'a' AS state")

        with pytest.raises(pytest.fail.Exception, match=table):
            leaks.check_database(empty_database_url)


def test_a_thread_is_found():
    before = set(threading.enumerate())
    stop = threading.Event()
    ours = threading.Thread(target=stop.wait, name="pipeline-hub", daemon=True)
    ours.start()

    try:
        assert leaks._strays(before) == [ours]
    finally:
        stop.set()
        ours.join()


def test_a_database_without_our_tables_passes(empty_database_url):
    leaks.check_database(empty_database_url)


def test_the_shell_of_the_developer_is_forgotten(monkeypatch):
    monkeypatch.setenv("PIPELINE_THREADS", "99")
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("PIPELINE_TEST_SCALE", "small")

    database.forget_the_shell()

    left = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert "99" not in re.findall(r"PIPELINE_THREADS=(.*)", left)
    assert "elsewhere" not in left
    assert "PIPELINE_TEST_SCALE=small" in left
