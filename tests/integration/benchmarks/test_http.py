"""``./dev bench http`` asks everything that it promises to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.http import COUNTED, PATHS
from tests.benchmarks.measure import ROOT


@pytest.mark.timeout(120)
def test_each_question_is_timed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.http", "--quick", "--finished", "3000", "--waiting", "1500"]
    output = subprocess.run(
        [*command, "--json", tmp_path / "runs.json", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]

    assert list(runs) == [*PATHS, COUNTED, "look"]
    assert all(path in output for path in PATHS)
