"""What holds for every file of Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.tree import Source, python, sources

MODULE_LINES = 400
FUNCTION_STATEMENTS = 40

#: The only place in which threads sleep: tests that wait for a condition.
MAY_SLEEP = {"tests/fixtures/wait.py"}

KNOWS_DRAMATIQ_PG = {"pipeline/broker/broker.py", "pipeline/broker/results.py"}

OURS = python()
EVERYTHING = python("pipeline", "actors", "api", "scheduler", "tests", "deploy")
#: Spelt apart, or this file would be full of them.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Go through the statements below a node. What expressions are made of is most of a tree, and holds none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from statements(child)


def statements_of(function: ast.AST) -> int:
    return sum(1 for _ in statements(function))


def is_too_long(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function has too many statements; of one with few lines that is clear without counting."""
    lines = (function.end_lineno or 0) - function.lineno
    return lines > FUNCTION_STATEMENTS and statements_of(function) > FUNCTION_STATEMENTS


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in statements(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(source: Source) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def sleeps(source: Source) -> list[int]:
    """Find ``time.sleep``, also imported by name."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and getattr(node.value, "id", "") == "time":
            found.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
            found.append(node.lineno)
    return found


def test_no_module_is_too_long() -> None:
    lengths = {source.name: len(source.lines) for source in OURS}

    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    found = ((source, function) for source in EVERYTHING for function in functions(source))

    assert [f"{s}:{f.lineno}: {f.name}" for s, f in found if is_too_long(f)] == []


def test_a_long_function_is_noticed() -> None:
    long, short = "    x = 1\n" * 41, "    x = 1\n" * 40
    nested = "    try:\n" + "        x = 1\n" * 20 + "    except E:\n" + "        x = 1\n" * 20

    assert [is_too_long(*functions(Source("x", f"def f():\n{body}"))) for body in (long, short, nested)] == [
        True,
        False,
        True,
    ]


def test_every_folder_of_ours_is_a_package() -> None:
    """Without an ``__init__.py`` it is none to import-linter, which would look past what it imports."""
    names = {source.name for source in OURS}
    folders = {name.rpartition("/")[0] for name in names}

    assert {folder for folder in folders if f"{folder}/__init__.py" not in names} == set()


def test_nobody_sleeps() -> None:
    assert {source.name for source in EVERYTHING if "sleep" in source.text and sleeps(source)} == MAY_SLEEP


@pytest.mark.parametrize("text", ["import time\ntime.sleep(1)", "from time import sleep"])
def test_sleep_is_noticed(text: str) -> None:
    assert sleeps(Source("x", text))


def test_nothing_is_left_for_later() -> None:
    searched = sources("pipeline", "actors", "api", "scheduler", "sql", "docs", "deploy", "tests")

    assert [source.name for source in searched if UNFINISHED.search(source.text)] == []


def test_what_is_left_for_later_is_noticed() -> None:
    assert UNFINISHED.findall("# TO" + "DO: think") == ["TO" + "DO"]


def test_dramatiq_pg_is_known_to_two_files() -> None:
    assert {
        source.name for source in OURS if "dramatiq_pg" in source.text and "dramatiq_pg" in imported(source)
    } == KNOWS_DRAMATIQ_PG


def test_an_import_is_noticed_wherever_it_stands() -> None:
    assert imported(Source("x", "def f():\n    from dramatiq_pg import utils\n    import a.b")) == {"dramatiq_pg", "a"}
