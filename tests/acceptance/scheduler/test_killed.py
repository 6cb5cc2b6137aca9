"""Each due instant is fired once, whatever happens to the daemons, and whatever their clocks show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest

from tests.fixtures.scale import IS_LONG
from tests.fixtures.schedules import Schedules, due
from tests.fixtures.wait import eventually

SKEWS = (-5.0, 0.0, 5.0)
#: Due every second.
SCHEDULES = 50
SECONDS = 120 if IS_LONG else 8


@pytest.mark.timeout(300)
def test_three_daemons_with_wrong_clocks_of_which_one_is_killed_every_second(
    schedules: Schedules, start: Callable[..., Any]
) -> None:
    daemons = [start(skew=skew) for skew in SKEWS]
    eventually(lambda: len(schedules.daemons()) == len(SKEWS), within=30)
    clocks = sorted(seconds for _, seconds in schedules.daemons())
    assert clocks == [pytest.approx(skew, abs=1.5) for skew in SKEWS], "their clocks are really wrong"
    end = (schedules.now() + timedelta(seconds=SECONDS)).replace(microsecond=0)
    rows = [
        schedules.put(f"every_second_{number}", missed="all", ends_at=end.isoformat()) for number in range(SCHEDULES)
    ]

    for second, victim in zip(range(SECONDS), cycle(daemons), strict=False):
        strike_at = end - timedelta(seconds=SECONDS - second)
        eventually(lambda at=strike_at: schedules.now() >= at, every=0.05)
        victim.kill()
        victim.start()
    eventually(lambda: schedules.last(*(row.name for row in rows)) == end, within=60, every=0.1)

    for row in rows:
        firings = schedules.firings(row.name)
        assert [firing.due_at for firing in firings] == due(row, end), row.name
        assert {firing.outcome for firing in firings} == {"f"}
    assert schedules.tasks == sum(len(due(row, end)) for row in rows)
    schedules.assert_tasks_are_those_of_firings()
    assert all(firing.fired_at >= firing.due_at for row in rows for firing in schedules.firings(row.name))
