"""What an operator or an application can do to schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

import pipeline
from pipeline.errors import (
    ActorUnknown,
    DuplicateTask,
    ScheduleConflict,
    ScheduleDeclared,
    ScheduleInvalid,
    ScheduleOverlaps,
    ScheduleUnknown,
)
from pipeline.runtime import transact
from pipeline.store import schedules
from pipeline.store.audit import By
from pipeline.store.schedules import Put
from scheduler import (
    add_schedule,
    edit_schedule,
    find_schedule,
    list_firings,
    list_schedules,
    pause_schedule,
    preview_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
)
from scheduler.commands import next_due

pytestmark = pytest.mark.usefixtures("bound")


@pytest.fixture
def hourly(bound):
    return add_schedule("hourly", "scheduled_report", every="1h", who="ada")


@pytest.fixture
def nightly_of_code(bound):
    """A schedule that a module declares."""
    definition = {"kind": "cron", "expression": "0 2 * * *", "actor": "scheduled_report"}
    put = Put("nightly", definition, declared_by="erp.schedules")
    assert transact(lambda sql, cursor: schedules.put(sql, cursor, put, by=By("scheduler"))) == "made"
    return find_schedule("nightly")


@pytest.fixture
def noted(rows):
    """What the audit trail says of a command."""
    return lambda action: rows(
        "SELECT who, reason, source, schedule FROM pipeline.audit_log WHERE action = %s ORDER BY audit_id", action
    )


def test_a_schedule_is_made_at_run_time(noted):
    row = add_schedule(
        "nightly", "scheduled_report", cron="0 2 * * *", timezone="Europe/Berlin", args=[2025], kwargs={"month": 3},
        tags=["x"], missed="all", max_age="1d", jitter=timedelta(minutes=5), who="ada", reason="wanted",
    )  # fmt: skip

    assert row == find_schedule("nightly")
    assert (row.kind, row.expression, row.args, row.kwargs, row.tags) == (
        "cron",
        "0 2 * * *",
        [2025],
        {"month": 3},
        ["x"],
    )
    assert (row.missed, row.max_age_seconds, row.jitter_seconds) == ("all", 86_400, 300)
    assert (row.declared_by, row.updated_by, row.state, row.version) == (None, "ada", "active", 1)
    assert noted("add") == [("ada", "wanted", "python", "nightly")]


def test_it_can_be_made_paused():
    row = add_schedule("later", "scheduled_report", every="1h", paused=True, who="ada", reason="not yet")

    assert (row.state, row.paused_by, row.pause_reason) == ("paused", "ada", "not yet")


def test_a_name_that_is_taken_is_a_conflict(hourly):
    with pytest.raises(ScheduleConflict, match="The schedule hourly exists already"):
        add_schedule("hourly", "scheduled_report", every="2h", who="ada")

    assert find_schedule("hourly") == hourly


def test_what_makes_no_sense_is_not_stored():
    for given, field in (
        ({"at": "2020-01-01T00:00"}, "expression"),
        ({"every": "1h", "ends_at": datetime(2020, 1, 1, tzinfo=UTC)}, "ends_at"),
        ({"every": "1h", "args": [1, 2]}, "args"),
        ({"cron": "* * * *"}, "expression"),
    ):
        with pytest.raises(ScheduleInvalid) as caught:
            add_schedule("wrong", "scheduled_report", who="ada", **given)
        assert (caught.value.field, caught.value.schedule) == (field, "wrong")

    assert list_schedules() == []


def test_only_what_is_given_changes(hourly, noted, rows):
    row = edit_schedule("hourly", jitter="5m", who="bob", reason="spread")

    assert (row.jitter_seconds, row.expression, row.version, row.updated_by) == (300, "1h", 2, "bob")
    assert noted("edit") == [("bob", "spread", "python", "hourly")]
    assert row.done_until == hourly.done_until


def test_of_another_timing_instants_from_now_on_count(hourly):
    assert edit_schedule("hourly", every="30m", who="bob").done_until > hourly.done_until


def test_what_is_none_again_is_taken_away():
    add_schedule(
        "slow", "scheduled_report", every="1h", queue="slow", priority=3, missed="all", max_age="1h", who="ada"
    )

    row = edit_schedule("slow", queue=None, priority=None, max_age=None, who="ada")

    assert (row.queue, row.priority, row.max_age_seconds, row.missed) == (None, None, None, "all")


def test_an_edit_is_checked_as_a_whole(hourly):
    with pytest.raises(ScheduleInvalid, match="goes with missed=all"):
        edit_schedule("hourly", max_age="1h", who="ada")
    with pytest.raises(ScheduleInvalid, match="too many positional arguments"):
        edit_schedule("hourly", actor="unique_report", args=[1], who="ada")
    with pytest.raises(ScheduleInvalid, match="it is over"):
        edit_schedule("hourly", ends_at=datetime(2020, 1, 1, tzinfo=UTC), who="ada")

    assert find_schedule("hourly") == hourly


def test_who_has_read_an_older_version_changes_nothing(hourly):
    edit_schedule("hourly", jitter="5m", version=1, who="ada")

    with pytest.raises(ScheduleConflict, match="has the version 2, not 1"):
        edit_schedule("hourly", jitter="6m", version=1, who="bob")

    assert find_schedule("hourly").jitter_seconds == 300


def test_an_edit_that_changes_nothing_is_none(hourly, noted):
    assert edit_schedule("hourly", every="1h", who="ada") == hourly
    assert noted("edit") == []


def test_a_schedule_is_removed_and_its_history_stays(hourly, noted):
    task_id = run_schedule("hourly", who="ada")
    remove_schedule("hourly", who="bob", reason="enough")

    assert list_schedules() == []
    assert [firing.task_id for firing in list_firings("hourly")] == [task_id]
    assert noted("remove") == [("bob", "enough", "python", "hourly")]


def test_what_code_declares_is_changed_and_removed_there(nightly_of_code):
    with pytest.raises(
        ScheduleDeclared, match="The schedule nightly is declared in the module erp.schedules; change it there"
    ):
        edit_schedule("nightly", jitter="5m", who="ada")
    with pytest.raises(ScheduleDeclared, match="remove it there"):
        remove_schedule("nightly", who="ada")

    assert find_schedule("nightly") == nightly_of_code


@pytest.mark.usefixtures("nightly_of_code")
def test_what_code_declares_can_be_paused_resumed_and_run():
    pause_schedule("nightly", who="ada")
    run_schedule("nightly", who="ada")
    resume_schedule("nightly", who="ada")

    assert find_schedule("nightly").state == "active"


@pytest.mark.usefixtures("nightly_of_code")
def test_what_no_code_declares_any_more_can_be_removed_by_force():
    remove_schedule("nightly", force=True, who="ada")

    assert list_schedules() == []


@pytest.mark.usefixtures("hourly")
def test_a_pause_and_its_end_say_by_whom_and_why(noted):
    pause_schedule("hourly", who="ada", reason="wrong prices")
    paused = find_schedule("hourly")
    resume_schedule("hourly", who="bob", reason="corrected")

    assert (paused.state, paused.paused_by, paused.pause_reason) == ("paused", "ada", "wrong prices")
    assert find_schedule("hourly").state == "active"
    assert noted("pause") + noted("resume") == [
        ("ada", "wrong prices", "python", "hourly"),
        ("bob", "corrected", "python", "hourly"),
    ]


def test_a_run_by_hand_is_a_task_at_once_also_while_it_is_paused(rows, noted):
    add_schedule(
        "quiet",
        "scheduled_report",
        args=[2025],
        tags=["x"],
        priority=4,
        every="1h",
        jitter="1h",
        paused=True,
        who="ada",
    )

    task_id = run_schedule("quiet", who="bob", reason="asked for")

    assert rows("SELECT actor, args, tags, priority, state FROM pipeline.task_status WHERE task_id = %s", task_id) == [
        ("scheduled_report", [2025], ["x"], 4, "queued")
    ]
    (firing,) = list_firings("quiet")
    assert (firing.task_id, firing.is_manual, firing.fired_by) == (task_id, True, "bob")
    assert noted("run") == [("bob", "asked for", "python", "quiet")]


def test_a_run_by_hand_obeys_overlap():
    add_schedule("single", "scheduled_report", every="1h", overlap="skip", who="ada")
    task_id = run_schedule("single", who="ada")

    with pytest.raises(ScheduleOverlaps, match="does not overlap") as caught:
        run_schedule("single", who="ada")

    assert caught.value.task_id == task_id


def test_where_another_task_has_the_key_its_id_is_told(rows):
    add_schedule("unique", "unique_report", every="1h", who="ada")
    first = run_schedule("unique", who="ada")

    assert run_schedule("unique", who="ada") == first
    assert rows("SELECT DISTINCT new_value->>'task_id' FROM pipeline.audit_log WHERE action = 'run'") == [(first,)]


def test_where_a_held_key_is_an_error_it_is_one():
    add_schedule("unique", "unique_report", every="1h", options={"on_conflict": "error"}, who="ada")
    run_schedule("unique", who="ada")

    with pytest.raises(DuplicateTask):
        run_schedule("unique", who="ada")


def test_a_run_needs_the_actor(hourly, rows):
    rows("UPDATE pipeline.schedule SET actor = 'gone_report'")

    with pytest.raises(ActorUnknown, match="gone_report"):
        run_schedule("hourly", who="ada")


def test_an_unknown_schedule_is_an_error():
    for command in (
        lambda: edit_schedule("nothing", jitter="1m", who="ada"),
        lambda: remove_schedule("nothing", who="ada"),
        lambda: pause_schedule("nothing", who="ada"),
        lambda: resume_schedule("nothing", who="ada"),
        lambda: run_schedule("nothing", who="ada"),
        lambda: find_schedule("nothing"),
        lambda: preview_schedule("nothing"),
    ):
        with pytest.raises(ScheduleUnknown, match="There is no schedule nothing"):
            command()


def test_a_command_may_belong_to_the_callers_transaction(database_url, hourly):
    connection = psycopg2.connect(database_url)
    try:
        add_schedule("mine", "scheduled_report", every="1h", who="ada", target=connection)
        edit_schedule("mine", jitter="1m", who="ada", target=connection)
        pause_schedule("hourly", who="ada", target=connection)
        run_schedule("hourly", who="ada", target=connection)
        assert [row.name for row in list_schedules(target=connection)] == ["hourly", "mine"]
        connection.rollback()
    finally:
        connection.close()

    assert list_schedules() == [hourly]
    assert list_firings() == []


def test_a_preview_begins_where_it_is_told_and_marks_what_the_clock_does():
    add_schedule("night", "scheduled_report", cron="30 2 * * *", timezone="Europe/Berlin", paused=True, who="ada")

    found = preview_schedule("night", 3, after=datetime(2027, 3, 26, 12, tzinfo=UTC))

    assert [(f"{each.local:%m-%d %H:%M %Z}", each.mark) for each in found] == [
        ("03-27 02:30 CET", None),
        ("03-28 03:00 CEST", "gap"),
        ("03-29 02:30 CEST", None),
    ]


def test_when_it_is_due_next_is_told_unless_it_is_paused(hourly, rows):
    due = next_due(find_schedule("hourly"))
    assert due.minute == 0
    assert timedelta(0) <= due - hourly.done_until <= timedelta(hours=1)

    pause_schedule("hourly", who="ada")
    assert next_due(find_schedule("hourly")) is None


def test_history_is_told_page_by_page(hourly):
    ids = [run_schedule("hourly", who="ada") for _ in range(3)]

    first = list_firings("hourly", limit=2)
    second = list_firings("hourly", before=first[-1].fired_at, limit=2)

    assert [each.task_id for each in [*first, *second]] == ids[::-1]
    assert pipeline.cancel(ids[0], who="ada") is pipeline.TaskState.CANCELLED
    assert list_firings("hourly")[-1].state == "cancelled"
