"""Which limit counts, and which ones make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.broker.time_limits import hard_limit_seconds, wrong

INF = float("inf")


@pytest.mark.parametrize(
    ("message", "actor", "default", "seconds"),
    [
        ({}, {}, 3600.0, 3600.0),
        ({}, {}, 0.0, INF),
        ({}, {"hard_time_limit": 1500}, 3600.0, 1.5),
        ({"hard_time_limit": 500}, {"hard_time_limit": 1500}, 3600.0, 0.5),
        ({}, {"hard_time_limit": INF}, 3600.0, INF),
        ({}, {"time_limit": 1000}, 3600.0, 3600.0),
        ({}, {"time_limit": 7_200_000}, 3600.0, 7260.0),
        ({"time_limit": 7_200_000}, {"time_limit": 1000}, 3600.0, 7260.0),
        ({}, {"time_limit": INF}, 3600.0, INF),
        ({"hard_time_limit": "soon"}, {"hard_time_limit": 1500}, 3600.0, 1.5),
        ({"hard_time_limit": -1, "time_limit": []}, {}, 3600.0, 3600.0),
    ],
)
def test_the_message_counts_more_than_its_actor_and_both_more_than_the_default(
    message: dict[str, Any], actor: dict[str, Any], default: float, seconds: float
) -> None:
    assert hard_limit_seconds(message, actor, default) == seconds


@pytest.mark.parametrize("name", ["time_limit", "hard_time_limit"])
@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), "1000", True, [1], {}])
def test_what_is_no_time_is_named(name: str, value: Any) -> None:
    assert wrong({name: value}) == f"the {name} {value!r} is no number of milliseconds above 0"


@pytest.mark.parametrize("options", [{}, {"time_limit": None}, {"time_limit": 1}, {"hard_time_limit": INF}])
def test_what_makes_sense_is_let_through(options: dict[str, Any]) -> None:
    assert wrong(options) is None


def test_a_hard_limit_below_the_soft_one_would_leave_no_time_to_clean_up() -> None:
    assert (
        wrong({"time_limit": 2000, "hard_time_limit": 1000}) == "the hard_time_limit 1000 is below the time_limit 2000"
    )
    assert wrong({"time_limit": 1000, "hard_time_limit": 1000}) is None
