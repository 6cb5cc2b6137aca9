"""``./dev bench views`` asks everything that it promises to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.measure import ROOT
from tests.benchmarks.views import QUESTIONS


@pytest.mark.timeout(120)
def test_each_question_is_timed_and_its_plan_is_kept(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.views",
        "--finished",
        "3000",
        "--waiting",
        "1500",
        "--minutes",
        "0",
    ]
    output = subprocess.run(
        [*command, "--json", tmp_path / "runs.json", "--markdown", tmp_path / "report.md", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]

    assert list(runs) == [question.what for question in QUESTIONS]
    assert all(len(run["ms"]) == 30 and "actual" in run["plan"] for run in runs.values())
    assert all(question.what in output for question in QUESTIONS)
    assert (tmp_path / "report.md").read_text().count("\n| by id") == 2  # its times, and what was asked of them
