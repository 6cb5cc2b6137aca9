"""Errors of schedules, over HTTP."""

from __future__ import annotations

import pytest

from api.errors import STATUSES
from pipeline.errors import ScheduleConflict, ScheduleDeclared, ScheduleInvalid, ScheduleOverlaps, ScheduleUnknown


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ScheduleUnknown("nightly"), 404),
        (ScheduleConflict("nightly", "exists already"), 409),
        (ScheduleDeclared("nightly", "erp.schedules"), 409),
        (ScheduleOverlaps("nightly", "5b1f"), 409),
        (ScheduleInvalid("expression", "minute: 61 is above 59"), 422),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    assert next(found for kind, found in STATUSES if isinstance(error, kind)) == status
