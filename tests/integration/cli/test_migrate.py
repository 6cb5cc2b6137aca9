"""``pipeline migrate``."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from pipeline.cli import migrate as command
from tests.fixtures.database import query
from tests.integration.cli.conftest import Run


@pytest.fixture
def migrate(empty_database_url: str, configured: Callable[..., None], pipeline_command: Run) -> Run:
    configured(database_url=empty_database_url)
    return lambda *arguments: pipeline_command("migrate", *arguments)


def test_check_names_what_is_missing_until_it_is_there(migrate: Run) -> None:
    missing = migrate("--check")
    assert missing.exit_code == 1
    assert "pending    0001_create_core" in missing.output
    assert "pending    functions/30_exchange.sql" in missing.output
    assert "pending    0001_create_core" in migrate("--status").output

    assert migrate().output.endswith("files were applied; the schema is up to date.\n")

    assert (migrate("--check").exit_code, migrate("--check").output) == (0, "The schema is up to date.\n")
    assert "applied    0001_create_core" in migrate("--status").output
    assert migrate().output == "The schema is up to date.\n"


def test_an_edited_migration_is_an_error(migrate: Run, empty_database_url: str) -> None:
    migrate()
    edit = "UPDATE pipeline.schema_migration SET checksum = 'x' WHERE version = 1 RETURNING 1"
    query(empty_database_url, edit)

    result = migrate()

    assert result.exit_code == 1
    assert result.output.startswith("Error: The migration 0001_create_core was edited")
    assert "changed    0001_create_core" in migrate("--check").output
    assert migrate("--check").exit_code == 1


def test_tables_of_installed_packages_follow(
    migrate: Run, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = EntryPoint("erp", "actors.models:create_tables", "pipeline.migrations")

    def installed(*, group: str) -> Any:
        return [plugin] if group == "pipeline.migrations" else []

    monkeypatch.setattr(command, "entry_points", installed)

    assert migrate().exit_code == 0
    assert query(empty_database_url, "SELECT count(*) > 0 FROM erp.product") is True
