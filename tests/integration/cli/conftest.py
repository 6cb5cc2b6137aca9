"""The command line inside the test's process."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.settings import get_settings
from tests.fixtures.process_broker import process_broker

Run = Callable[..., Result]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set settings for this test; what commands make of them is undone at its end."""

    def configure(**settings: object) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(value))
        get_settings.cache_clear()

    handlers = logging.getLogger().handlers[:]
    yield configure
    monkeypatch.undo()
    get_settings.cache_clear()
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def pipeline_command(configured: Callable[..., None]) -> Run:
    """Run ``pipeline ARGUMENTS`` with the settings that were set."""
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.fixture
def on_database(database_url: str, configured: Callable[..., None], pipeline_command: Run) -> Iterator[Run]:
    """The same on this test's database."""
    configured(database_url=database_url)
    with process_broker(database_url):
        yield pipeline_command


@pytest.fixture
def ask(database_url: str) -> Any:
    from tests.fixtures.database import query

    return lambda question, *parameters: query(database_url, question, parameters)
