"""What holds for every function, table and view in the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.architecture.tree import Source, doc, sql

Rows = Callable[..., list[tuple[Any, ...]]]

_CREATE_TABLE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\S+)(.*)$")

#: SECURITY DEFINER with a search path that a caller could change is a way to run code as the owner.
_OPEN_DOORS = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
     WHERE p.pronamespace = 'pipeline'::regnamespace AND p.prosecdef
       AND NOT coalesce('search_path=pipeline, pg_temp' = ANY (p.proconfig), false)
"""


def uncommented_tables(source: Source) -> Iterator[str]:
    """Find tables without a comment line above them; one may stand above a block of tables that belong together."""
    paragraph: list[str] = []
    for line in source.lines:
        paragraph = [*paragraph, line] if line.strip() else []
        found = _CREATE_TABLE.match(line)
        if found and "PARTITION OF" not in found[2] and not paragraph[0].startswith("--"):
            yield found[1]


def test_a_function_with_the_owners_rights_has_a_fixed_search_path(rows: Rows) -> None:
    assert rows(_OPEN_DOORS) == []


def test_a_function_without_one_is_noticed(rows: Rows) -> None:
    rows("CREATE FUNCTION pipeline.careless() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")

    assert rows(_OPEN_DOORS) == [("pipeline.careless()",)]


@pytest.mark.parametrize("source", sql("sql/migrations"), ids=str)
def test_every_table_has_a_comment(source: Source) -> None:
    assert list(uncommented_tables(source)) == []


def test_a_table_without_a_comment_is_noticed() -> None:
    text = "-- A thing.\nCREATE TABLE a (\n);\nCREATE TABLE b ();\n\nCREATE TABLE c ();\n"

    assert list(uncommented_tables(Source("x", text))) == ["c"]


def uncommented_functions(source: Source) -> list[str]:
    """Find functions for Python whose promise does not stand above them."""
    found = re.findall(r"(?m)^(.*)\nCREATE OR REPLACE FUNCTION (\w+_v\d+)\(", source.text)
    return [name for above, name in found if not above.startswith("--")]


def test_every_function_that_python_calls_has_a_comment() -> None:
    told_by_its_file = ["register_worker_v1"]

    assert [name for source in sql("sql/functions") for name in uncommented_functions(source)] == told_by_its_file


def sections() -> dict[str, str]:
    """What the reference says about each view, by its name."""
    return dict(re.findall(r"(?ms)^### `(\w+)`\n(.*?)(?=^##|\Z)", doc("reference/sql.md")))


def plain(text: str) -> str:
    """A text without its marks and links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split())).replace("`", "").strip()


def test_every_view_and_each_of_its_columns_has_a_comment_with_the_words_of_the_reference(rows: Rows) -> None:
    expected, found = {}, {}
    for view, column, comment in rows(
        "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " AND a.attnum > 0 WHERE c.relnamespace = 'pipeline'::regnamespace AND c.relkind = 'v'"
        " UNION ALL SELECT c.relname, '', obj_description(c.oid) FROM pg_class c"
        " WHERE c.relnamespace = 'pipeline'::regnamespace AND c.relkind = 'v'"
    ):
        cells = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) ?\|$", sections()[view]))
        text = cells.get(column, "") if column else sections()[view].strip().split("\n\n")[0]
        expected[view, column] = plain(text) or column.replace("_", " ")
        found[view, column] = comment

    assert found == expected


def test_every_column_of_every_view_is_documented(rows: Rows) -> None:
    views: dict[str, list[str]] = {}
    for view, column in rows(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE c.relnamespace = 'pipeline'::regnamespace AND c.relkind = 'v' ORDER BY a.attnum"
    ):
        views.setdefault(view, []).append(column)

    assert {view: re.findall(r"(?m)^\| `(\w+)` \|", sections().get(view, "")) for view in views} == views


def test_every_table_is_named_in_the_documentation(rows: Rows) -> None:
    page = doc("reference/sql.md")
    tables = rows(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pipeline'::regnamespace "
        "AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    )

    assert [name for (name,) in tables if f"`{name}`" not in page] == []
