"""The examples of a page, as a program: ``python -m tests.integration.docs.examples PAGE``.

A block of ```` ```python ```` or ```` ```sql ```` runs if the line above it is ``<!-- runnable -->``. All blocks of a
page run in their order, in one namespace, on the database in DATABASE_URL. The page may add, invisibly:

- ``<!-- runnable, after the work is done -->``: a worker runs everything that waits before the block does;
- ``<!-- setup`` … ``-->``: code that the reader need not see.

``expression  # → value`` in a block is checked: the expression's repr is the value.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import dramatiq
import psycopg2

import pipeline

_BLOCK = re.compile(
    r"(?ms)^<!-- runnable(?P<after>, after the work is done)? -->\n```(?P<language>python|sql)\n(?P<code>.*?)^```$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$"
)
_EXPECTED = re.compile(r"  # → (.+)$")


@dataclass(frozen=True)
class Block:
    """One piece of a page that runs."""

    language: str
    code: str
    line: int
    after_work: bool = False


def blocks(text: str) -> Iterator[Block]:
    """Find what runs on a page."""
    for match in _BLOCK.finditer(text):
        is_setup = match["setup"] is not None
        start = match.start("setup" if is_setup else "code")
        line = text.count("\n", 0, start)
        yield (
            Block("python", match["setup"], line)
            if is_setup
            else Block(match["language"], match["code"], line, bool(match["after"]))
        )


def run(page: str, text: str) -> int:
    """Run a page; return how many values were checked."""
    namespace: dict[str, Any] = {"__name__": "examples"}
    checked = 0
    for block in blocks(text):
        if block.after_work:
            work()
        if block.language == "sql":
            run_sql(block.code)
        else:
            checked += run_python(page, block, namespace)
    return checked


def run_python(page: str, block: Block, namespace: dict[str, Any]) -> int:
    checked = 0
    tree = ast.parse("\n" * block.line + block.code, page)
    lines = block.code.splitlines()
    for statement in tree.body:
        expected = _EXPECTED.search(lines[(statement.end_lineno or 0) - block.line - 1])
        if isinstance(statement, ast.Expr) and expected:
            found = eval(compiled(ast.Expression(statement.value), page, "eval"), namespace)  # noqa: S307 - our own page
            assert repr(found) == expected[1], f"{page}:{statement.lineno}: {found!r}, not {expected[1]}"
            checked += 1
        else:
            exec(compiled(ast.Module([statement], []), page, "exec"), namespace)  # noqa: S102 - our own page
    return checked


def compiled(node: ast.Module | ast.Expression, page: str, mode: str) -> CodeType:
    code: CodeType = compile(node, page, mode, dont_inherit=True)
    return code


def run_sql(code: str) -> None:
    with closing(psycopg2.connect(pipeline.get_broker().url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(code)


def work() -> None:
    """Run all that waits and is due, or will be soon."""
    broker = dramatiq.get_broker()
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        for queue in broker.get_declared_queues():
            broker.join(queue, timeout=20_000)
    finally:
        worker.stop(timeout=10_000)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    sys.stdout.write(f"{path.name}: {run(str(path), path.read_text(encoding='utf-8'))} values checked\n")
    dramatiq.get_broker().close()
