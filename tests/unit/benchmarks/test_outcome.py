"""What the benchmarks of many processes make of what they counted."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.benchmarks import gauge, memory, processes
from tests.benchmarks.gauge import Asked
from tests.benchmarks.outcome import Outcome


def test_counters_are_told_as_what_was_added() -> None:
    before = Asked(10, {"exchange_v1": 5, "beat_v1": 2}, 1)
    after = Asked(30, {"exchange_v1": 25, "beat_v1": 2, "conclude_runs": 4}, 4)

    added = after.since(before)

    assert (added.transactions, added.calls, added.claims) == (20, {"exchange_v1": 20, "conclude_runs": 4}, 3)
    assert added.empty_exchanges == 13


def test_a_process_is_gauged() -> None:
    assert gauge.cpu_seconds(os.getpid()) > 0
    assert 1 < gauge.resident_mib(os.getpid()) < 10_000
    assert gauge.children(os.getpid()) == []
    assert gauge.connections(os.getpid(), "postgresql://u:p@127.0.0.1:1/d") == 0


def test_the_most_processes_are_compared_with_the_best_in_each_round() -> None:
    outcome = Outcome("many")

    processes.report(outcome, {1: [100.0, 100.0], 4: [200.0, 400.0], 16: [160.0, 320.0]})

    assert [row[3] for row in outcome.rows] == ["0.38 (0.25–0.50)", "1.00 (1.00–1.00)", "0.80 (0.80–0.80)"]
    assert [(goal.found, goal.is_reached) for goal in outcome.goals] == [("0.80 (0.80–0.80)", False)]


def test_the_process_that_grows_most_decides() -> None:
    outcome = Outcome("memory")
    flat, growing = [70.0] * 11, [60.0 + number for number in range(11)]

    memory.report(outcome, [list(pair) for pair in zip(flat, growing, strict=True)], [70.0, 71.0], 100_000)

    assert [goal.is_reached for goal in outcome.goals] == [True, False, True]
    assert outcome.runs["slopes_mib_per_100000"] == [0.0, 1.0]


def test_everything_is_written(tmp_path: Path) -> None:
    outcome = Outcome("a title", {"cores": "2"}, ["what", "figure"], [["a", "1"]], runs={"a": [1]})
    outcome.at_most("a", 2, 1.0, " MiB")

    outcome.write(tmp_path / "json", tmp_path / "markdown")

    document = json.loads((tmp_path / "json").read_text())
    assert document["goals"] == [{"what": "a", "asked": "≤ 2 MiB", "found": "1.00 MiB", "is_reached": True}]
    assert "| a | ≤ 2 MiB | 1.00 MiB | yes |" in (tmp_path / "markdown").read_text()
