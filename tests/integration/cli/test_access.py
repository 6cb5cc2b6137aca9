"""How whoever runs ``pipeline up`` gets into its API."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.access import Access, provide_access
from pipeline.commands.tokens import hash_of, is_secret
from pipeline.settings import Settings
from tests.fixtures.tokens import make_token
from tests.integration.cli.conftest import Run

Provide = Callable[[], Access]
NAMES = "SELECT string_agg(split_part(name, '@', 1) || ' ' || scope, ',') FROM pipeline.api_token"


@pytest.fixture
def provide(database_url: str, tmp_path: Path) -> Provide:
    """What ``pipeline up`` does at each start."""

    def start() -> Access:
        access = provide_access(database_url, Settings(data_dir=tmp_path / "var"))
        assert access is not None
        return access

    return start


def test_an_operators_token_is_kept_where_only_its_owner_reads_it(provide: Provide, ask: Any) -> None:
    access = provide()

    assert is_secret(access.token)
    assert access.file.read_text() == f"{access.token}\n"
    assert stat.S_IMODE(access.file.stat().st_mode) == 0o600
    assert ask(NAMES) == "up operate"
    assert ask("SELECT who || ' ' || action FROM pipeline.audit_log") == "pipeline up create_token"


def test_it_stays_the_same_and_the_code_does_not(provide: Provide, ask: Any) -> None:
    first, second = provide(), provide()

    assert first.token == second.token
    assert first.code != second.code
    assert ask("SELECT count(*) FROM pipeline.api_login") == 2
    assert ask("SELECT count(*) FROM pipeline.api_login WHERE hash = %s", (hash_of(second.code),)) == 1


@pytest.mark.parametrize(
    "end", ["revoked_at = clock_timestamp()", "expires_at = clock_timestamp()", "hash = sha256('x')"]
)
def test_one_that_is_not_good_any_more_is_replaced(
    provide: Provide, ask: Any, database_url: str, rows: Any, end: str
) -> None:
    first = provide()
    rows(f"UPDATE pipeline.api_token SET {end}")
    second = provide()

    assert first.token != second.token
    assert second.file.read_text().strip() == second.token


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"tq_" + b"x" * 43])
def test_a_file_with_something_else_is_replaced(provide: Provide, content: bytes) -> None:
    first = provide()
    first.file.write_bytes(content)
    first.file.chmod(0o644)

    second = provide()

    assert second.file.read_text().strip() == second.token
    assert stat.S_IMODE(second.file.stat().st_mode) == 0o600


def test_it_is_not_written_through_a_link(provide: Provide, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "token").symlink_to(tmp_path / "elsewhere")

    access = provide()

    assert not access.file.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_where_others_can_reach_it_nothing_is_made_and_a_token_is_asked_for(
    on_database: Run, configured: Callable[..., None], ask: Any, database_url: str, tmp_path: Path
) -> None:
    configured(http_host="0.0.0.0", data_dir=tmp_path)  # noqa: S104 - that is the point

    refused = on_database("up")

    assert refused.exit_code == 2
    assert "The HTTP API was to listen on 0.0.0.0 (PIPELINE_HTTP_HOST)" in refused.output
    assert "pipeline token create" in refused.output
    make_token(database_url)
    assert provide_access(database_url, Settings(http_host="0.0.0.0", data_dir=tmp_path)) is None  # noqa: S104
    assert ask("SELECT count(*) FROM pipeline.api_token") == 1
    assert not (tmp_path / "token").exists()
