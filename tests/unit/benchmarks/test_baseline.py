"""What counts as worse than the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.guard import baseline
from tests.benchmarks.guard.baseline import Figure, Figures, Kind, Versions

HERE = Versions("3.11", "18")


def complaints(kind: Kind, value: float, expected: float, versions: Versions = HERE) -> list[str]:
    before = ({"it": Figure(kind, expected)}, HERE)
    return baseline.complaints(baseline.compare({"it": Figure(kind, value)}, versions, before))


@pytest.mark.parametrize("kind", [Kind.VOLUME, Kind.EFFORT])
def test_a_quarter_more_is_a_regression_and_noise_is_none(kind: Kind) -> None:
    assert complaints(kind, 1.25, 1) != []
    assert complaints(kind, 1.05, 1) == []
    assert complaints(kind, 0.5, 1) == []


def test_one_statement_more_is_a_regression() -> None:
    assert complaints(Kind.COUNT, 4, 4) == []
    assert complaints(Kind.COUNT, 4.05, 4) == ["it: 4.050, the baseline is 4.000, at most 4.000 is tolerated"]
    assert complaints(Kind.COUNT, 1 + 1 / 256, 1) != []


def test_another_python_or_postgresql_may_differ_more_but_takes_no_more_statements() -> None:
    elsewhere = Versions("3.13", "15")

    assert complaints(Kind.EFFORT, 1.4, 1, elsewhere) == []
    assert complaints(Kind.VOLUME, 1.2, 1, elsewhere) == []
    assert complaints(Kind.EFFORT, 1.6, 1, elsewhere) != []
    assert complaints(Kind.COUNT, 1.01, 1, elsewhere) != []


def test_a_figure_cannot_be_forgotten() -> None:
    """Neither one that nobody measures any more, nor a new one without a baseline."""
    before = ({"old": Figure(Kind.COUNT, 1)}, HERE)

    found = baseline.complaints(baseline.compare({"new": Figure(Kind.COUNT, 1)}, HERE, before))

    assert found == ["old: in the baseline, but not measured", "new: measured, but not in the baseline"]


def test_what_is_better_asks_for_a_new_baseline() -> None:
    before = ({"a": Figure(Kind.EFFORT, 1), "b": Figure(Kind.EFFORT, 1)}, HERE)

    verdicts = baseline.compare({"a": Figure(Kind.EFFORT, 0.8), "b": Figure(Kind.EFFORT, 0.95)}, HERE, before)

    assert [verdict.is_better for verdict in verdicts] == [True, False]


def measuring(*values: float) -> Iterator[Figures]:
    return ({"it": Figure(Kind.EFFORT, value)} for value in values)


def test_noise_is_measured_again_and_a_regression_stays() -> None:
    before = ({"it": Figure(Kind.EFFORT, 1)}, HERE)
    noisy, slower = measuring(1.5, 1.1, 9), measuring(1.3, 1.28, 1.31)

    found = baseline.measured_until_no_worse(lambda: next(noisy), HERE, before)
    worse = baseline.measured_until_no_worse(lambda: next(slower), HERE, before)

    assert found["it"].value == 1.1
    assert next(noisy)["it"].value == 9, "it stopped as soon as it could"
    assert baseline.complaints(baseline.compare(found, HERE, before)) == []
    assert baseline.complaints(baseline.compare(worse, HERE, before)) != []


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    figures = {"b": Figure(Kind.VOLUME, 351.25), "a": Figure(Kind.COUNT, 1)}

    baseline.write(figures, HERE, tmp_path / "baseline.json")

    assert baseline.read(tmp_path / "baseline.json") == (figures, HERE)


def test_the_committed_baseline_promises_one_dead_row_per_task_and_one_round_trip_per_send() -> None:
    figures, _ = baseline.read()

    assert figures["exchange of 256: dead rows in ready per task"].value == 1
    assert figures["send: round trips"].value == 1
    assert figures["exchange: round trips"].value == 1
    assert figures["10 sends in a SQLAlchemy session: more round trips"].value == 1
