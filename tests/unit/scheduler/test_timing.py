"""Timings that cannot be, and what is said about them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from pipeline.errors import PipelineError, ScheduleInvalid
from scheduler.timing import Gap, check
from tests.unit.scheduler.timings import ANCHOR, calendar, cron, interval, once, utc

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - that is what is tried


@pytest.mark.parametrize(
    "timing",
    [
        cron("0 2 * * mon-fri", "Europe/Berlin"),
        interval("15m", "Asia/Kathmandu"),
        calendar("1 month 09:30", "America/St_Johns"),
        once("2026-12-24T18:00", "Australia/Lord_Howe"),
        once("1990-12-24T18:00"),
        cron("30 2 * 3 sun#L", "Europe/Berlin"),
        cron("@daily", starts_at=utc("2026-01-01"), ends_at=utc("2026-01-01")),
        replace(cron("@daily"), kind="cron", gap="skip", fold="both"),  # type: ignore[arg-type]
    ],
    ids=lambda timing: timing.expression,
)
def test_what_can_be_passes(timing: Any) -> None:
    check(timing)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"kind": "weekly"}, "kind", '"weekly" is none of cron, interval, calendar, once'),
        ({"gap": "later"}, "gap", '"later" is none of next, skip'),
        ({"fold": "second"}, "fold", '"second" is none of first, both'),
        ({"timezone": "Europe/Berlim"}, "timezone", 'there is no time zone "Europe/Berlim"; did you mean Europe/Berlin?'),
        ({"anchor_at": NAIVE}, "anchor_at", "2026-01-01 00:00:00 has no UTC offset; write it with one, such as 2026-01-01T00:00:00+00:00"),
        ({"starts_at": NAIVE}, "starts_at", "2026-01-01 00:00:00 has no UTC offset"),
        ({"ends_at": NAIVE}, "ends_at", "2026-01-01 00:00:00 has no UTC offset"),
        ({"ends_at": utc("9999-12-31")}, "ends_at", "9999-12-31 00:00:00+00:00 does not lie in the years 1970 to 8999"),
        ({"starts_at": utc("0001-01-01")}, "starts_at", "0001-01-01 00:00:00+00:00 does not lie in the years 1970 to"),
        (
            {"starts_at": utc("2026-01-02"), "ends_at": utc("2026-01-01")},
            "ends_at",
            "2026-01-01 00:00:00+00:00 lies before starts_at, 2026-01-02 00:00:00+00:00",
        ),
        (
            {"starts_at": utc("2026-01-01T01:00"), "ends_at": utc("2026-01-01T23:00")},
            "expression",
            '"0 0 * * *" is never due between 2026-01-01 01:00:00+00:00 and 2026-01-01 23:00:00+00:00',
        ),
        (
            {"ends_at": ANCHOR},
            "expression",
            '"0 0 * * *" is never due between the beginning and 2019-12-31 23:15:00+00:00',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_the_field_named(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ScheduleInvalid) as raised:
        check(replace(cron("0 0 * * *"), **changes))

    assert raised.value.field == field
    assert raised.value.reason.startswith(reason)


def test_what_the_clock_always_jumps_over_is_refused() -> None:
    with pytest.raises(ScheduleInvalid, match="is never due in Europe/Berlin, whose clock jumps over it; gap=next"):
        check(cron("30 2 * 3 sun#L", "Europe/Berlin", gap=Gap.SKIP))


def test_the_error_is_one_of_ours_and_a_value_error() -> None:
    assert issubclass(ScheduleInvalid, PipelineError)
    assert issubclass(ScheduleInvalid, ValueError)
