"""What a run may report, and what becomes of it."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pipeline.context import CurrentTask
from pipeline.progress import NOTHING, Progress, advanced, as_json


def after(*reports: dict[str, Any]) -> Progress:
    progress = NOTHING
    for report in reports:
        progress = advanced(progress, **report)
    return progress


@pytest.mark.parametrize(
    ("done", "total", "percent"), [(0, 0, 100), (0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (999, 1000, 99)]
)
def test_the_percentage_follows_from_the_counts(done: int, total: int, percent: int) -> None:
    assert after({"done": done, "total": total}) == Progress(percent, done, total)


def test_what_is_not_given_stays_as_it_is() -> None:
    progress = after({"total": 200, "step": "rows", "note": "begun"}, {"done": 50}, {"done": 60, "note": "on"})

    assert progress == Progress(30, 60, 200, "rows", "on")


def test_a_percentage_that_is_given_counts_more_than_the_counts() -> None:
    assert after({"done": 1, "total": 2, "percent": 10}) == Progress(10, 1, 2)


@pytest.mark.parametrize(
    "less",
    [
        {"done": 49},
        {"done": 49, "note": "late"},
        {"percent": 49.9},
        {"percent": 0, "note": "late"},
        {"done": 0, "step": "a"},
    ],
)
def test_a_report_that_tells_less_is_ignored_as_a_whole(less: dict[str, Any]) -> None:
    before = after({"done": 50, "total": 100, "step": "a", "note": "half"})

    assert advanced(before, **less) is before


def test_another_step_counts_anew_and_the_percentage_does_not_fall() -> None:
    first = {"done": 100, "total": 100, "step": "read"}

    assert after(first, {"step": "write"}) == Progress(100, None, None, "write")
    assert after(first, {"step": "write", "done": 1, "total": 10}) == Progress(100, 1, 10, "write")
    assert after({"percent": 40, "step": "read"}, {"percent": 30, "step": "write"}) == Progress(40, step="write")


def test_a_total_may_turn_out_to_be_larger_or_too_low() -> None:
    assert after({"done": 10, "total": 100}, {"done": 11, "total": 1000}) == Progress(10, 11, 1000)
    assert after({"done": 10, "total": 10}, {"done": 12}) == Progress(100, 12, 12)
    assert after({"done": 5, "total": 4}) == Progress(100, 5, 5)


def test_a_note_alone_is_a_report() -> None:
    assert after({"percent": 10, "note": "a"}, {"note": "b"}, {"note": ""}, {"note": "c"}) == Progress(10, note="c")


@pytest.mark.parametrize(
    ("value", "whole"),
    [(49.9, 49), (Decimal("7.5"), 7), (Fraction(7, 2), 3), (0.0, 0), (100.0, 100), (99.999, 99)],
)
def test_fractions_are_cut_off(value: Any, whole: int) -> None:
    assert after({"percent": value}).percent == whole
    assert after({"done": value, "total": 1000}).done == whole


@pytest.mark.parametrize("name", ["percent", "done", "total"])
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        -1,
        -0.001,
        10**400,
        10**5000,
        Fraction(10**400),
        2**63,
        "50",
        "many",
        b"1",
        True,
        [1],
        1j,
        object(),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {str(value)[:20] if not isinstance(value, int) or value < 2**64 else 'huge'}"
    ),
)
def test_what_is_no_number_in_range_is_an_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is a number from 0 to \d+, not "):
        after({name: value})


def test_a_percentage_above_100_is_an_error() -> None:
    with pytest.raises(ValueError, match="percent is a number from 0 to 100, not 101"):
        after({"percent": 101})


@pytest.mark.parametrize("name", ["step", "note"])
@pytest.mark.parametrize("value", [5, b"half", ["half"]])
def test_what_is_no_text_is_an_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is a text, not "):
        after({name: value})


def test_long_texts_are_cut_off_and_what_postgresql_cannot_store_is_replaced() -> None:
    report = Progress(5, step="s" * 1_000_000, note="\0\ud800ä" + "n" * 1_000_000)

    (row,) = json.loads(as_json([("id", 3, report)]))

    assert row == {
        "t": "id",
        "r": 3,
        "p": 5,
        "d": None,
        "m": None,
        "s": "s" * 500,
        "n": "\N{REPLACEMENT CHARACTER}?ä" + "n" * 497,
    }


class _Engine:
    """Takes reports and does nothing with them."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, Progress]] = []

    def report_progress(self, task_id: str, run: int, progress: Progress) -> None:
        self.reports.append((task_id, run, progress))


def task_of(engine: Any, run: int = 1) -> CurrentTask:
    return CurrentTask("id", run, 1, "actor", "queue", False, engine, None, {}, 1, 1)


def test_reports_are_handed_over_with_their_run_except_those_that_tell_less() -> None:
    engine = _Engine()
    for run in (1, 2):
        task = task_of(engine, run)
        task.report(done=5, total=10)
        task.report(done=4)
        task.progress(60, "on")

    assert engine.reports == [
        ("id", run, progress) for run in (1, 2) for progress in (Progress(50, 5, 10), Progress(60, 5, 10, None, "on"))
    ]
