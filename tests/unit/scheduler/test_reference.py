"""What the page about schedules says is so."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import ScheduleInvalid
from scheduler.instants import LATEST, between
from scheduler.timing import Fold, Gap, Kind, Timing, check
from tests.architecture.tree import doc, table_rows
from tests.unit.scheduler.timings import calendar, cron, interval, utc

PAGE = doc("reference/schedules.md")
BEFORE = utc("2026-01-01") - timedelta(seconds=1)


def rows(head: str) -> list[list[str]]:
    """The rows of the table that begins so, without the marks of code."""
    table = PAGE[PAGE.index(f"\n| {head}") + 1 :].partition("\n\n")[0]
    return [[cell.strip("`") for cell in row] for row in table_rows(table)[1:]]


def first(timing: Timing, after: datetime, shown: str, form: str) -> str:
    """As many instants as are shown, as they are shown."""
    zone, n = ZoneInfo(timing.timezone), shown.count(",") + 1
    return ", ".join(f"{one.astimezone(zone):{form}}" for one in islice(between(timing, after, LATEST), n))


def form_of(shown: str) -> str:
    return "%Y-%m-%d %H:%M:%S" if re.search(r":\d\d:", shown) else "%Y-%m-%d %H:%M"


@pytest.mark.parametrize(("text", "_", "shown"), rows("cron text | means"))
def test_cron_texts_are_due_as_shown(text: str, _: str, shown: str) -> None:
    assert first(cron(text), BEFORE, shown, form_of(shown)) == shown


@pytest.mark.parametrize(("text", "reason"), rows("cron text | refused"))
def test_cron_texts_are_refused_as_shown(text: str, reason: str) -> None:
    with pytest.raises(ScheduleInvalid) as raised:
        check(cron(text))

    assert raised.value.reason == reason


@pytest.mark.parametrize(("text", "shown"), rows("interval |"))
def test_intervals_are_due_as_shown(text: str, shown: str) -> None:
    timing = interval(text, anchor_at=utc("2026-01-01T00:10"))

    assert first(timing, BEFORE, shown, form_of(shown)) == shown


@pytest.mark.parametrize(("text", "shown"), rows("calendar interval |"))
def test_calendar_intervals_are_due_as_shown(text: str, shown: str) -> None:
    timing = calendar(text, anchor_at=utc("2026-01-31T12:00"))

    assert first(timing, BEFORE, shown, form_of(shown)) == shown


@pytest.mark.parametrize(("text", "gap", "fold", "night", "shown"), rows("cron text | gap"))
def test_the_policies_are_as_shown(text: str, gap: str, fold: str, night: str, shown: str) -> None:
    timing = cron(text, "Europe/Berlin", gap=Gap(gap), fold=Fold(fold))
    midnight = datetime.fromisoformat(night).replace(tzinfo=ZoneInfo("Europe/Berlin"))

    assert first(timing, midnight - timedelta(seconds=1), shown, "%d %H:%M %z") == shown


def test_all_kinds_and_policies_are_told() -> None:
    assert {row[0] for row in rows("kind |")} == set(Kind)
    assert {row[0].split("`")[0] for row in rows("`gap` |")} == set(Gap)
    assert {row[0] for row in rows("`fold` |")} == set(Fold)


def test_what_is_shown_for_a_kind_can_be_read() -> None:
    for kind, text, _ in rows("kind |"):
        check(Timing(Kind(kind), text, anchor_at=utc("2026-01-01")))
