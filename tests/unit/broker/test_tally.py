"""How runs are counted in memory."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.broker.outcome import Conclusion
from pipeline.broker.tally import BOUNDS, Tally
from pipeline.states import Outcome

#: What the database's clock shows when a test begins: far away from this machine's.
NOON = 1_000_000 * 60.0


@pytest.fixture
def tally() -> Tally:
    made = Tally()
    made.set_clock(NOON)
    return made


def ended(
    outcome: Outcome = Outcome.SUCCEEDED, *, waited: float = 0.0, ran: float | None = 0.0, **more: Any
) -> Conclusion:
    """A run that ended just now; ``ran=None``: it never began."""
    now = time.monotonic()
    began_at = None if ran is None else now - ran
    eta = NOON - (ran or 0) - waited
    fields = {
        "queue_name": "mail",
        "actor_name": "greet",
        "is_settled": False,
        "eta": eta,
        "started_at": began_at,
    } | more
    proxy: Any = SimpleNamespace(**fields)
    return Conclusion(proxy, outcome, finished_at=now)


def test_runs_are_counted_by_minute_queue_and_actor(tally: Tally) -> None:
    tally.add([ended(), ended(), ended(actor_name="other"), ended(queue_name="slow")])

    rows = tally.take()

    assert [(row["queue"], row["actor"], row["succeeded"], row["started"]) for row in rows] == [
        ("mail", "greet", 2, 2),
        ("mail", "other", 1, 1),
        ("slow", "greet", 1, 1),
    ]


def test_minutes_are_those_of_the_databases_clock(tally: Tally) -> None:
    tally.add([ended()])
    tally.set_clock(NOON + 3600)
    tally.add([ended()])

    assert [row["minute"] for row in tally.take()] == ["1971-11-26T10:40:00+00:00", "1971-11-26T11:40:00+00:00"]


@pytest.mark.parametrize(
    ("outcome", "column"),
    [
        (Outcome.SUCCEEDED, "succeeded"),
        (Outcome.RETRY, "retried"),
        (Outcome.FAILED, "failed"),
        (Outcome.CANCELLED, "cancelled"),
        (Outcome.SKIPPED, "skipped"),
        (Outcome.INTERRUPTED, "interrupted"),
        (Outcome.LOST, "lost"),
    ],
)
def test_every_outcome_has_its_column(tally: Tally, outcome: Outcome, column: str) -> None:
    tally.add([ended(outcome)])

    (row,) = tally.take()

    outcomes = ("succeeded", "retried", "failed", "cancelled", "skipped", "interrupted", "lost")
    assert {name: row[name] for name in outcomes} == dict.fromkeys(outcomes, 0) | {column: 1}


def test_a_wait_is_measured_from_when_the_run_was_due_until_it_began(tally: Tally) -> None:
    tally.add([ended(waited=2.0, ran=7.0)])

    (row,) = tally.take()

    assert row["wait_ms"] == pytest.approx(2000, abs=100)
    assert row["run_ms"] == pytest.approx(7000, abs=100)
    assert (row["waits"][BOUNDS.index(1.0)], row["waits"][BOUNDS.index(2.5)]) == (0, 1)
    assert (row["runs"][BOUNDS.index(5.0)], row["runs"][BOUNDS.index(10.0)]) == (0, 1)


def test_histograms_are_cumulative_and_end_with_all_of_them(tally: Tally) -> None:
    tally.add([ended(ran=seconds) for seconds in (0.0, 0.02, 7.0, 5000.0)])

    (row,) = tally.take()

    assert row["runs"] == [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert len(row["waits"]) == len(row["runs"]) == len(BOUNDS) + 1


def test_a_run_that_begins_before_it_is_due_by_that_clock_has_waited_for_nothing(tally: Tally) -> None:
    tally.add([ended(waited=-0.5)])

    (row,) = tally.take()
    assert (row["wait_ms"], row["waits"][0]) == (0, 1)


def test_a_run_that_never_began_is_in_no_histogram(tally: Tally) -> None:
    tally.add([ended(Outcome.INTERRUPTED, ran=None)])

    (row,) = tally.take()
    assert (row["interrupted"], row["started"], row["waits"][-1], row["runs"][-1]) == (1, 0, 0, 0)


def test_a_run_that_somebody_else_concluded_is_not_counted(tally: Tally) -> None:
    """Its own transaction came too late; nothing is left of it but that its thread did not say how it ended."""
    tally.add([ended(Outcome.LOST, is_settled=True), ended(is_settled=True)])

    (row,) = tally.take()
    assert (row["succeeded"], row["lost"]) == (1, 0)


def test_what_was_taken_is_gone_and_what_was_put_back_comes_again(tally: Tally) -> None:
    tally.add([ended()])
    rows = tally.take()
    assert tally.take() == []

    tally.put_back(rows)
    tally.add([ended()])

    assert [row["succeeded"] for row in tally.take()] == [1, 1]
