"""The regression guard: what a task costs has not risen above the committed baseline."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fixtures.program import ROOT


@pytest.mark.timeout(120)
def test_no_task_costs_more_than_the_baseline_says(database_url: str) -> None:
    """If it does for a good reason: ``./dev bench guard --renew``, and commit the new baseline with that reason.

    In a process of its own, since coverage slows down our Python and not the reference.
    """
    guard = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.guard", "--database", database_url],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        capture_output=True,
        text=True,
    )

    assert guard.returncode == 0, guard.stdout + guard.stderr
