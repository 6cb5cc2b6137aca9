"""What deploy/ sets in the environment is something that we read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices

from pipeline.settings import Settings

DEPLOY = Path(__file__).parents[3] / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc")

VARIABLE = re.compile(r"\b(?:PIPELINE_[A-Z_]+|DATABASE_URL)\b")


def variables() -> set[str]:
    """Every name that a setting is read from."""
    names = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names |= set(map(str, alias.choices)) if isinstance(alias, AliasChoices) else {f"PIPELINE_{name.upper()}"}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_is_a_setting(path: Path) -> None:
    assert set(VARIABLE.findall(path.read_text())) <= variables()


def test_variables_are_used_at_all() -> None:
    assert {"DATABASE_URL", "PIPELINE_STOP_SECONDS"} <= set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))
