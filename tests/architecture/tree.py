"""The repository as text: which files there are, and what is in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "actors", "api", "scheduler")

_GENERATED = {
    ".git",
    ".venv",
    ".venv-peers",
    "var",
    "build",
    "dist",
    "htmlcov",
    "node_modules",
    "static",
    "__pycache__",
}
_BINARY = {".png", ".ico", ".woff2", ".pyc", ".gz"}


@dataclass(frozen=True)
class Source:
    """One file, by its path inside the repository."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.name

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@cache
def sources(*folders: str, suffix: str = "") -> tuple[Source, ...]:
    """Read the files in some folders (or the whole repository) whose name ends so."""
    starts = [ROOT / folder for folder in folders] or [ROOT]
    paths = sorted(path for start in starts for path in _files(start) if path.name.endswith(suffix))
    return tuple(Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths)


def _files(start: Path) -> Iterator[Path]:
    if start.is_file():
        yield start
        return
    for path in start.iterdir() if start.is_dir() else ():
        if path.name in _GENERATED or path.name.endswith(("_cache", ".egg-info")) or path.name == ".hypothesis":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix not in _BINARY and not path.name.startswith(".coverage"):
            yield path


def python(*folders: str) -> tuple[Source, ...]:
    """Read the Python files of some folders; by default of our packages."""
    return sources(*(folders or PACKAGES), suffix=".py")


def sql(folder: str = "sql") -> tuple[Source, ...]:
    """Read the SQL files."""
    return sources(folder, suffix=".sql")


def doc(name: str) -> str:
    """Read one page of the documentation."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def table_rows(page: str) -> list[list[str]]:
    """Read the cells of all tables of a page, without their heads and rules."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]
