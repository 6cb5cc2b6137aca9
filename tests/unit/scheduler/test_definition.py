"""A schedule as code writes it: what it becomes, and what is said where it makes no sense."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import pipeline
from pipeline.errors import ScheduleInvalid
from scheduler import Schedule
from scheduler.definition import Definition
from scheduler.instants import following
from scheduler.timing import Fold, Kind


@pipeline.actor(actor_name="definition_report", broker=pipeline.get_broker(), tags=["declared"])
def report(year: int, month: int = 1, *, copies: int = 1) -> None: ...


def made(**given) -> Definition:
    return Schedule("nightly", **{"actor": report, "args": [2026], "every": "1h", **given}).definition


def only(**timing) -> Definition:
    return Schedule("nightly", actor=report, args=[2026], **timing).definition


@pytest.mark.parametrize(
    ("timing", "kind", "expression"),
    [
        ({"cron": " 0 2 * * * "}, Kind.CRON, "0 2 * * *"),
        ({"every": "15m"}, Kind.INTERVAL, "15m"),
        ({"every": timedelta(minutes=90)}, Kind.INTERVAL, "90m"),
        ({"every": timedelta(hours=48)}, Kind.INTERVAL, "2d"),
        ({"every": timedelta(seconds=61)}, Kind.INTERVAL, "61s"),
        ({"calendar": "1 month 09:30"}, Kind.CALENDAR, "1 month 09:30"),
        ({"at": "2026-12-24T18:00"}, Kind.ONCE, "2026-12-24T18:00"),
        ({"at": datetime(2026, 12, 24, 18, tzinfo=UTC)}, Kind.ONCE, "2026-12-24T18:00:00+00:00"),
    ],
)
def test_it_is_due_by_one_of_four(timing, kind, expression):
    definition = only(**timing)

    assert (definition.kind, definition.expression) == (kind, expression)


def test_what_is_not_given_has_its_default():
    definition = only(cron="0 2 * * *")

    assert definition.as_columns() == {
        "actor": "definition_report", "kind": "cron", "expression": "0 2 * * *", "timezone": "UTC", "gap": "next", "fold": "first",
        "anchor_at": "2018-01-01T00:00:00+00:00", "starts_at": None, "ends_at": None, "args": [2026], "kwargs": {}, "queue": None,
        "priority": None, "tags": [], "options": {}, "description": "", "missed": "once", "max_age_seconds": None,
        "grace_seconds": 15, "overlap": "allow", "jitter_seconds": 0,
    }  # fmt: skip


def test_spans_are_texts_or_timedeltas():
    definition = made(missed="all", max_age="2d", grace=timedelta(minutes=1), jitter="0s")

    assert (definition.max_age_seconds, definition.grace_seconds, definition.jitter_seconds) == (172_800, 60, 0)


def test_tags_are_a_set():
    assert made(tags=["b", "a", "b"]).tags == ["a", "b"]
    assert made(tags={"x"}).tags == ["x"]


def test_what_repeats_within_a_day_repeats_in_the_hour_that_comes_twice():
    assert only(cron="*/15 * * * *").fold is Fold.BOTH
    assert only(cron="*/15 * * * *", fold="first").fold is Fold.FIRST


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"])
def test_weeks_and_months_begin_where_people_of_the_zone_expect_it(zone):
    after = datetime(2026, 11, 26, tzinfo=UTC)

    week = following(only(calendar="1 week", timezone=zone).timing, after).astimezone(ZoneInfo(zone))
    month = following(only(calendar="1 month 09:30", timezone=zone).timing, after).astimezone(ZoneInfo(zone))

    assert f"{week:%a %Y-%m-%d %H:%M}" == "Mon 2026-11-30 00:00"
    assert f"{month:%Y-%m-%d %H:%M}" == "2026-12-01 09:30"


def test_an_interval_is_counted_from_the_same_instant_after_each_start():
    assert made() == made()
    assert made(anchor_at=datetime(2026, 1, 1, 0, 7, tzinfo=UTC)).anchor_at.minute == 7


def test_an_actor_may_be_named():
    assert made(actor="definition_report").actor == "definition_report"


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"cron": "61 2 * * *"}, "expression", "minute: 61 is above 59"),
        ({"cron": "0 2 * *"}, "expression", "a cron text has five"),
        ({"every": "fast"}, "expression", "not an interval"),
        ({"every": 15}, "every", "neither a timedelta nor a text"),
        ({"every": timedelta(seconds=0.5)}, "every", "whole seconds"),
        ({"calendar": "1 moon"}, "expression", "not a calendar interval"),
        ({"at": "tomorrow"}, "expression", "not a date and time"),
        ({"at": date(2026, 12, 24)}, "at", "has no time"),
        ({"every": "1h", "timezone": "Europe/Berln"}, "timezone", "did you mean Europe/Berlin?"),
        ({}, "expression", "by one of cron, every, calendar, at"),
        ({"cron": "0 2 * * *", "every": "1h"}, "every", "cron is given, too"),
        ({"cron": None}, "cron", "None is not a text"),
    ],
)
def test_a_wrong_timing_is_told(given, field, reason):
    with pytest.raises(ScheduleInvalid) as caught:
        only(**given)

    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"actor": "definition_reprt"}, "actor", "did you mean definition_report?"),
        ({"actor": "x"}, "actor", "PIPELINE_SCHEDULES names the modules"),
        ({"actor": None}, "actor", "not a text"),
        (
            {"args": []},
            "args",
            "definition_report(year, month=1, *, copies=1) cannot be called so: missing a required argument: 'year'",
        ),
        ({"args": [1, 2, 3]}, "args", "too many positional arguments"),
        ({"kwargs": {"yaer": 1}}, "kwargs", "unexpected keyword argument 'yaer'"),
        ({"kwargs": {"year": 1}}, "args", "multiple values for argument 'year'"),
        ({"args": "2026"}, "args", "is not a list"),
        ({"kwargs": [1]}, "kwargs", "is not a mapping"),
        ({"args": [object()]}, "args", "cannot be written as JSON"),
        ({"args": [float("nan")]}, "args", "NaN"),
        ({"args": ["\0"]}, "args", "NUL"),
        ({"args": ["x" * 2_000_000]}, "args", "2,000,"),
        ({"tags": ["x" * 101]}, "tags", "101 bytes"),
        ({"tags": [f"t{n}" for n in range(20)]}, "tags", "there are 21 tags"),
        ({"tags": "a,b"}, "tags", "not a list of texts"),
        ({"options": {"unique_key": 3}}, "options", "unique_key is a int"),
        ({"options": {"time_limit": -1}}, "options", "time_limit"),
        ({"options": {"tags": ["a"]}}, "options", "that is what tags is for"),
        ({"options": {"delay": 5}}, "options", "jitter"),
        ({"options": {"ordering_key": "x"}, "overlap": "queue"}, "options", "brings its own"),
        ({"queue": "a b"}, "queue", "not a name of a queue"),
        ({"queue": "reports.DQ"}, "queue", "not a name of a queue"),
        ({"priority": 40_000}, "priority", "not between -32768 and 32767"),
        ({"priority": True}, "priority", "not a whole number"),
        ({"missed": "never"}, "missed", "none of skip, once, all"),
        ({"overlap": "wait"}, "overlap", "none of allow, skip, queue, cancel"),
        ({"gap": "jump"}, "gap", "none of next, skip"),
        ({"max_age": "1h"}, "max_age", "goes with missed=all"),
        ({"grace": "0s"}, "grace", "not between 1 s and a day"),
        ({"jitter": "2d"}, "jitter", "not between 0 s and a day"),
        ({"jitter": timedelta(seconds=-1)}, "jitter", "whole seconds"),
        ({"starts_at": datetime.fromisoformat("2026-01-01")}, "starts_at", "no UTC offset"),
        ({"starts_at": "2026-01-01"}, "starts_at", "not a datetime"),
        ({"ends_at": datetime(2017, 1, 1, tzinfo=UTC)}, "expression", "never due"),
        (
            {"starts_at": datetime(2026, 1, 2, tzinfo=UTC), "ends_at": datetime(2026, 1, 1, tzinfo=UTC)},
            "ends_at",
            "lies before",
        ),
        ({"description": "x" * 1001}, "description", "1000 characters"),
        ({"description": "a\0b"}, "description", "text"),
        ({"overlaps": "skip"}, "overlaps", "did you mean overlap?"),
    ],
)
def test_what_makes_no_sense_is_told_with_schedule_field_and_reason(given, field, reason):
    with pytest.raises(ScheduleInvalid) as caught:
        made(**given)

    assert caught.value.field == field
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"The schedule nightly is not valid: {field}: ")


@pytest.mark.parametrize("name", ["", "1st", "a b", "x" * 101, "ä", None])
def test_a_name_can_be_typed(name):
    with pytest.raises(ScheduleInvalid) as caught:
        Schedule(name, actor=report, args=[1], every="1h")

    assert caught.value.field == "name"


def test_what_was_left_to_a_default_follows_it_when_the_schedule_is_changed():
    before = only(cron="0 2 * * *", timezone="Europe/Berlin")

    after = before.changed({"cron": "*/5 * * * *", "timezone": "America/New_York"})

    assert (after.fold, after.anchor_at) == (Fold.BOTH, datetime(2018, 1, 1, 5, tzinfo=UTC))
    assert before.changed({"jitter": "5m"}).as_columns(only_changes_from=before) == {"jitter_seconds": 300}


def test_what_was_decided_stays_when_the_schedule_is_changed():
    anchor = datetime(2026, 1, 1, tzinfo=UTC)
    before = only(cron="0 2 * * *", fold="both", anchor_at=anchor)

    after = before.changed({"cron": "0 3 * * *", "timezone": "Europe/Berlin"})

    assert (after.fold, after.anchor_at) == (Fold.BOTH, anchor)
