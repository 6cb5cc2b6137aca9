"""What an operator reads when something is wrong: a line and an exit status, never a traceback."""

import socket
import time
from pathlib import Path

import pytest

from tests.fixtures.program import running


@pytest.mark.parametrize("command", [["status"], ["inspect", "active"], ["demo"], ["worker"], ["migrate"], ["up"]])
def test_a_database_that_does_not_answer_is_told_in_time(tmp_path: Path, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"postgresql://me:secret@127.0.0.1:{silent.getsockname()[1]}/erp"
        with running(tmp_path, "--version") as nothing:
            began = time.monotonic()
            nothing.end()
            start_up_seconds = time.monotonic() - began
        began = time.monotonic()
        with running(tmp_path, *command, database_url=url, data_dir=tmp_path) as program:
            assert program.end() == 4
        assert time.monotonic() - began < 5 + 3 * start_up_seconds + 1

    assert "PostgreSQL does not answer at 127.0.0.1" in program.output
    assert "Traceback" not in program.output
    assert "secret" not in program.output


@pytest.mark.parametrize("command", [["status"], ["inspect", "stats"], ["demo"], ["web"]])
def test_asking_starts_no_server_of_its_own(tmp_path: Path, command: list[str]) -> None:
    with running(tmp_path, *command, data_dir=tmp_path / "var") as program:
        assert program.end() == 4

    assert "Set DATABASE_URL, or start everything with: pipeline up" in program.output
    assert not (tmp_path / "var").exists()


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with running(tmp_path, "worker", threads="many", lease_seconds=-1) as program:
        assert program.end() == 2

    assert "PIPELINE_THREADS: " in program.output
    assert "PIPELINE_LEASE_SECONDS: " in program.output
    assert "Traceback" not in program.output


@pytest.mark.parametrize("command", ["worker", "up"])
def test_no_worker_starts_where_tasks_run_inline(tmp_path: Path, command: str) -> None:
    with running(tmp_path, command, eager=1, data_dir=tmp_path / "var") as program:
        assert program.end() == 2

    assert "PIPELINE_EAGER is set" in program.output
    assert "Traceback" not in program.output
    assert not (tmp_path / "var").exists()


def test_help_needs_no_valid_configuration(tmp_path: Path) -> None:
    with running(tmp_path, "--help", threads="many") as program:
        assert program.end() == 0
    assert {"up", "migrate", "worker", "web", "status", "inspect", "demo"} <= set(program.output.split())
