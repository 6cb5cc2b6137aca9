"""``pipeline doctor``."""

import json
from typing import Any

from pipeline.commands.checks import CHECKS
from tests.integration.cli.conftest import Run


def test_it_shows_each_check_and_succeeds_if_all_is_well(on_database: Run) -> None:
    result = on_database("doctor")

    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert [line.split()[-1] for line in result.output.splitlines()[:1]] == ["found"]
    assert result.output.count(" ok ") == len(CHECKS)


def test_it_fails_and_says_what_to_do(on_database: Run, ask: Any) -> None:
    ask("WITH d AS (DELETE FROM pipeline.schema_migration WHERE version = 18 RETURNING 1) SELECT count(*) FROM d")

    result = on_database("doctor")

    assert result.exit_code == 1
    assert "missing: 0018_add_stat_total" in result.output
    assert "Run: pipeline migrate" in result.output


def test_warnings_fail_only_if_it_shall_be_strict(on_database: Run, ask: Any) -> None:
    ask(
        "WITH i AS (INSERT INTO pipeline.schema_file (name, checksum) VALUES ('functions/12_stats.sql', 'x') RETURNING 1) SELECT 1 FROM i"
    )

    assert on_database("doctor").exit_code == 0
    assert on_database("doctor", "--strict").exit_code == 1


def test_programs_get_json(on_database: Run) -> None:
    findings = json.loads(on_database("doctor", "--json").stdout)

    assert [each["check"] for each in findings] == [each.__name__ for each in CHECKS]
    assert {each["verdict"] for each in findings} == {"ok"}
    assert set(findings[0]) == {"check", "promise", "verdict", "found", "remedy"}
