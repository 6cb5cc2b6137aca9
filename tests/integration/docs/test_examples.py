"""What the documentation shows works, on a real database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import environment
from tests.integration.docs.examples import Block, blocks

ROOT = Path(__file__).parents[3]
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if list(blocks(page.read_text(encoding="utf-8")))]


def run(page: Path, url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a page in a process of its own, since it declares actors on the process's broker."""
    variables = environment(database_url=url, lease_seconds=4, beat_seconds=0.5) | {"PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning:examples",
        "-m",
        "tests.integration.docs.examples",
        page,
    ]
    return subprocess.run(command, env=variables, cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_the_examples_of_a_page_work(page: Path, database_url: str, tmp_path: Path) -> None:
    done = run(page, database_url, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_example_that_is_wrong_is_noticed(database_url: str, tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text("<!-- runnable -->\n```python\nx = 1\nx + 1  # → 3\n```\n")

    assert f"{page}:4: 2, not 3" in run(page, database_url, tmp_path).stderr


def test_there_are_pages_with_examples() -> None:
    assert len(PAGES) >= 6


def test_only_what_is_marked_runs() -> None:
    text = "```python\na\n```\n<!-- runnable -->\n```python\nb\n```\n<!-- setup\nc\n-->\n"
    text += "<!-- runnable, after the work is done -->\n```sql\nd\n```\n"

    assert list(blocks(text)) == [
        Block("python", "b\n", 5),
        Block("python", "c\n", 8),
        Block("sql", "d\n", 12, after_work=True),
    ]
