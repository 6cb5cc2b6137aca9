"""``pipeline worker``, ``pipeline up`` and ``pipeline web`` inside the test's process; what they start is real."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scheduler import Schedule
from tests.fixtures.process_broker import process_broker
from tests.fixtures.scheduled_actors import tick
from tests.fixtures.tokens import make_token
from tests.fixtures.wait import eventually
from tests.integration.cli.conftest import Run

#: Several programs start at once.
PATIENCE = 60


@contextmanager
def stopped_once(is_reached: Callable[[], Any]) -> Iterator[None]:
    """Ask this process to stop once something is reached, or too much time has passed, while the block runs."""

    def wait_and_stop() -> None:
        try:
            eventually(is_reached, within=PATIENCE, every=0.1)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait_and_stop)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.timeout(120)
def test_a_worker_runs_until_stopped(on_database: Run, ask: Any) -> None:
    alive = "SELECT count(*) = 1 FROM pipeline.worker_status WHERE state = 'alive' AND threads = 3"
    with stopped_once(lambda: ask(alive)):
        result = on_database("worker", "-p", "1", "-t", "3", "-Q", "other", "tests.fixtures.program_actors")

    assert result.exit_code == 0, result.output
    assert ask("SELECT state FROM pipeline.worker_status") == "stopped"


@pytest.mark.timeout(120)
def test_a_scheduler_makes_what_code_declares_and_runs_until_stopped(on_database: Run, ask: Any) -> None:
    assert on_database("scheduler", "check").exit_code == 1

    with stopped_once(lambda: ask("SELECT count(*) = 1 FROM pipeline.scheduler_status WHERE state = 'alive'")):
        result = on_database("scheduler")

    assert result.exit_code == 0, result.output
    assert ask("SELECT state FROM pipeline.scheduler_status") == "stopped"
    assert ask("SELECT count(*) FROM pipeline.schedule WHERE declared_by = 'scheduler.schedules'") == 3


@pytest.mark.timeout(120)
def test_a_scheduler_of_other_modules_makes_what_they_declare_and_nothing_of_the_sample(
    on_database: Run, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.fixtures.scheduled_actors.SCHEDULES", [Schedule("mine", actor=tick, every="1h")], raising=False
    )
    with stopped_once(lambda: ask("SELECT count(*) = 1 FROM pipeline.scheduler_status WHERE state = 'alive'")):
        result = on_database("scheduler", "tests.fixtures.scheduled_actors")

    assert result.exit_code == 0, result.output
    assert ask("SELECT array_agg(name) FROM pipeline.schedule") == ["mine"]


def test_a_scheduler_without_the_actors_module_says_so_and_ends(on_database: Run) -> None:
    result = on_database("scheduler", "no.such.module")

    assert result.exit_code == 2
    assert "There is no module no.such.module" in result.output


def test_a_scheduler_that_lives_is_ready(on_database: Run, ask: Any) -> None:
    ask("SELECT scheduler_id FROM pipeline.beat_scheduler_v1(NULL, %s, 1, now())", socket.gethostname())

    assert "1 scheduler is alive" in on_database("scheduler", "check").output


@pytest.mark.timeout(120)
@pytest.mark.parametrize("smtp_host", ["", "mail.firma.example"])
def test_up_tells_where_everything_is(
    on_database: Run, configured: Callable[..., None], ask: Any, tmp_path: Path, smtp_host: str
) -> None:
    configured(data_dir=tmp_path, smtp_host=smtp_host, processes=1, threads=2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with stopped_once(lambda: ask("SELECT count(*) = 1 FROM pipeline.worker_status WHERE state = 'alive'")):
            result = on_database("up", "--port", str(port))

    assert result.exit_code == 0, result.output
    told = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert told["Mail"] == (f"handed over to {smtp_host}:25" if smtp_host else f"caught in {tmp_path / 'mail'}")
    assert told["Worker"] == "1 processes with 2 threads each"
    assert told["Web"].endswith(f"(port {port} is taken)")
    assert told["Login"].startswith(f"{told['Web'].split()[0]}/login?code=")
    assert told["Token"].split()[0] == (tmp_path / "token").read_text().strip()
    assert ask("SELECT count(*) > 0 FROM pipeline.worker_status WHERE state = 'stopped'") is True


@pytest.mark.timeout(120)
def test_up_names_an_address_that_it_cannot_have(
    on_database: Run, configured: Callable[..., None], database_url: str, tmp_path: Path
) -> None:
    configured(data_dir=tmp_path, http_host="203.0.113.1")
    make_token(database_url)

    result = on_database("up")

    assert result.exit_code == 1
    assert "Cannot listen on 203.0.113.1, port 8000 and the next ones" in result.output


#: An address that is none of this machine's, so nothing starts.
ELSEWHERE = ("--host", "203.0.113.1")


def test_a_web_server_that_others_could_reach_needs_a_token_first(on_database: Run, database_url: str) -> None:
    result = on_database("web", *ELSEWHERE)
    assert (result.exit_code, "listen on 203.0.113.1, port 8000, which others can reach" in result.output) == (2, True)

    make_token(database_url)
    result = on_database("web", *ELSEWHERE)
    assert (result.exit_code, "Cannot listen on 203.0.113.1, port 8000: " in result.output) == (1, True)


def test_while_the_database_is_away_a_web_server_may_start(
    configured: Callable[..., None], pipeline_command: Run
) -> None:
    away = "postgresql://nobody@127.0.0.1:1/none"
    configured(database_url=away)
    with process_broker(away):
        result = pipeline_command("web", *ELSEWHERE)

    assert (result.exit_code, "Cannot listen on 203.0.113.1" in result.output) == (1, True)


def test_a_web_server_that_does_not_answer_is_not_ready(configured: Callable[..., None], pipeline_command: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    configured(http_port=port)

    result = pipeline_command("web", "check")

    assert (result.exit_code, f"No web server answers at http://127.0.0.1:{port}: " in result.output) == (1, True)
