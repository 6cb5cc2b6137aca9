"""When a schedule is due that is kept in the database, or is to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.timing import Fold, Gap, Kind, Timing

if TYPE_CHECKING:
    from pipeline.store.schedules import ScheduleRow
    from scheduler.definition import Definition


def timing_of(schedule: ScheduleRow | Definition) -> Timing:
    """Take what decides when a schedule is due out of its row, or its definition."""
    return Timing(
        Kind(schedule.kind),
        schedule.expression,
        schedule.timezone,
        gap=Gap(schedule.gap),
        fold=Fold(schedule.fold),
        anchor_at=schedule.anchor_at,
        starts_at=schedule.starts_at,
        ends_at=schedule.ends_at,
    )
