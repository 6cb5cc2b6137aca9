"""The fixtures, in a suite as users write it: a run of pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import environment
from tests.fixtures.database import query

ROOT = Path(__file__).parents[3]

SUITE = """
import psycopg2
import pytest

import pipeline
from pipeline import actor, pause_queue
from pipeline.testing import assert_enqueued, assert_not_enqueued, drain, enqueued, reset


@actor
def add(a, b):
    return a + b


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_each_begins_without_tasks(pipeline_broker, pipeline_schema, turn):
    assert pipeline_broker is pipeline.get_broker()
    assert enqueued() == []
    message = add.send(turn, 1)
    add.send_with_options(args=(9, 9), delay=60_000)
    assert_enqueued(add, turn, 1, count=1)
    assert [run.result for run in drain()] == [turn + 1, 18]
    assert message.get_result() == turn + 1
    add.send(0, 0)
    pause_queue("default", who="test")


def test_reset_does_not_wait_for_ever(pipeline_broker, pipeline_schema):
    add.send(1, 2)
    connection = psycopg2.connect(pipeline_broker.url)
    connection.cursor().execute(f"SELECT * FROM {pipeline_schema}.task")
    with pytest.raises(pipeline.PipelineError, match="left a transaction open"):
        reset()
    connection.close()
    reset()
    assert_not_enqueued(add)


def test_the_schema_is_one_of_this_run(pipeline_schema):
    assert pipeline_schema.startswith("pipeline_test_")


def test_outside_the_fixture_it_is_another_database():
    with pytest.raises(pipeline.SchemaOutdated):
        enqueued()
"""


def run_suite(directory: Path, *options: str, **settings: object) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text('pytest_plugins = ["pipeline.testing.plugin"]\n')
    (directory / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options, "."]
    variables = environment(**settings) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)


def test_a_suite_on_a_given_database_leaves_it_as_it_was(database_url: str, tmp_path: Path) -> None:
    done = run_suite(tmp_path, database_url=database_url, data_dir=tmp_path / "var", schema="unused")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert query(database_url, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pipeline\\_test%'") == 0
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 0


@pytest.mark.stress
def test_a_suite_without_a_database_gets_a_server(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "-k", "not outside", data_dir=tmp_path / "var")

    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "var").exists()


def test_only_the_plugin_needs_pytest() -> None:
    program = "import pipeline.testing, sys; sys.exit('pytest' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
