"""Named SQL: each statement is used by the store, each use has its statement, and PostgreSQL can plan all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from pipeline.db.statements import load
from tests.architecture.tree import Source, python, sql

#: Who else may use a statement, and why.
ELSEWHERE = {
    "pipeline/db/migrate.py": "the runner works before there is a store; it has sql/queries/schema.sql to itself",
}
ONLY_FOR_MIGRATE = {
    name for source in sql("sql/queries/schema.sql") for name in re.findall(r"-- name: (\w+)", source.text)
}

STATEMENTS = load("pipeline")
SELECTS = [name for name, text in STATEMENTS.items() if text.lstrip().upper().startswith(("SELECT", "WITH"))]


def uses(source: Source) -> Iterator[str]:
    """Find the names in ``sql["…"]``, ``broker.sql["…"]`` and ``statements["…"]``, also two under a condition."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Subscript):
            continue
        if getattr(node.value, "attr", getattr(node.value, "id", "")) in {"sql", "_sql", "statements"}:
            chosen = [node.slice.body, node.slice.orelse] if isinstance(node.slice, ast.IfExp) else [node.slice]
            yield from (part.value for part in chosen if isinstance(part, ast.Constant))


USED = {source.name: set(uses(source)) for source in python() if set(uses(source))}


def test_every_statement_is_used() -> None:
    assert set(STATEMENTS) - set().union(*USED.values()) == set()


def test_every_name_that_is_used_is_a_statement() -> None:
    assert set().union(*USED.values()) - set(STATEMENTS) == set()


def test_statements_are_used_by_the_store() -> None:
    strangers = {name for name in USED if not name.startswith("pipeline/store/")}

    assert strangers == set(ELSEWHERE)


def test_the_statements_of_the_migration_runner_are_its_own() -> None:
    assert USED["pipeline/db/migrate.py"] == ONLY_FOR_MIGRATE


def test_each_noun_has_its_statements_and_its_module() -> None:
    nouns = {source.name.rsplit("/", 1)[-1].removesuffix(".sql") for source in sql("sql/queries")} - {"schema"}
    modules = {source.name.rsplit("/", 1)[-1].removesuffix(".py") for source in python("pipeline/store")} - {"__init__"}

    assert nouns == modules


def test_a_use_is_noticed_in_each_of_its_forms() -> None:
    text = "sql['a']\nself._broker.sql['b']\nsql['c' if x else 'd']\nstatements['e']\nother['f']\nsql[name]"

    assert set(uses(Source("x", text))) == {"a", "b", "c", "d", "e"}


@pytest.fixture
def explain(connect: Callable[..., Any]) -> Callable[[str], list[Any]]:
    """Plan a statement whose parameters are all NULL; nothing is run."""
    connection = connect(autocommit=True)

    def plan(statement: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}", dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
            return cursor.fetchall()

    return plan


def test_postgresql_can_plan_every_statement_that_reads(explain: Callable[[str], list[Any]]) -> None:
    assert len(SELECTS) > 30
    for name in SELECTS:
        assert explain(STATEMENTS[name]), name


def test_a_statement_about_nothing_is_refused(explain: Callable[[str], list[Any]]) -> None:
    with pytest.raises(psycopg2.ProgrammingError):
        explain("SELECT nothing FROM pipeline.task_status")
