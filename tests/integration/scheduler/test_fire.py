"""fire_v1: an instant and its task, once, whoever and how many ask."""

from __future__ import annotations

import dataclasses
import json
import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg2
import pytest

from pipeline.context import NewTask
from pipeline.db.statements import load
from pipeline.store import schedules
from pipeline.store.audit import By
from pipeline.store.schedules import Beat, Due, Put

SQL = load("pipeline")
ME = By("somebody", "a reason", "python")
#: Long before a test, so that any number of instants is over.
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def cursor(connect):
    with connect(autocommit=True).cursor() as cursor:
        yield cursor


@pytest.fixture
def put(cursor, rows):
    """Make a schedule that counts from midnight on; what it is like is read from the database."""

    def put(name="report", paused=False, **definition):
        definition = {"kind": "interval", "expression": "60", "actor": "report", **definition}
        assert schedules.put(SQL, cursor, Put(name, definition, paused=paused), by=ME) == "made"
        rows("UPDATE pipeline.schedule SET counts_from = %s, version = 1 WHERE name = %s", MIDNIGHT, name)
        rows("SELECT pipeline.ensure_lane_v1('reports', 0)")
        return read(cursor, name)

    return put


def read(cursor, name="report"):
    (row,) = schedules.schedules(SQL, cursor, name=name)
    return row


def task(**more):
    payload = json.dumps({"args": [], "kwargs": {}, "options": {}, "message_timestamp": 0})
    return NewTask(str(uuid4()), "reports", 0, "report", None, payload, is_new=True, **more)


def at(minutes):
    return MIDNIGHT + timedelta(minutes=minutes)


def due(row, *minutes, missed=None, instants=0, until=None):
    tasks = [(at(each), task()) for each in minutes]
    return Due(row.schedule_id, row.version, row.done_until, until or at(minutes[-1]), tasks, missed, instants)


def fire(cursor, wanted):
    return schedules.fire(SQL, cursor, wanted, by="here:1")


def firings(rows):
    return rows("SELECT due_at, outcome::text, instants, message_id IS NOT NULL FROM pipeline.firing ORDER BY due_at")


def waiting(rows):
    return rows("SELECT count(*) FROM pipeline.ready")[0][0]


def test_an_instant_and_its_task_exist_together(cursor, put, rows):
    row = put()

    found = fire(cursor, due(row, 1, 2))

    assert (found.state, found.fired, found.left_out) == ("fired", 2, 0)
    assert firings(rows) == [(at(1), "f", 1, True), (at(2), "f", 1, True)]
    assert rows("SELECT count(*) FROM pipeline.firing f JOIN pipeline.task t USING (message_id)")[0][0] == 2
    assert read(cursor).done_until == at(2)


def test_a_task_that_cannot_be_made_leaves_its_instant_due(cursor, put, rows):
    row = put()
    wanted = due(row, 1)
    wanted.tasks[0][1].queue = "unheard"

    with pytest.raises(psycopg2.Error, match="unheard"):
        fire(cursor, wanted)

    assert firings(rows) == []
    assert read(cursor).done_until == MIDNIGHT


def test_an_instant_of_the_future_is_refused_however_fast_the_callers_clock_is(cursor, put, rows):
    row = put()
    future = datetime.now(tz=UTC) + timedelta(seconds=30)

    found = fire(cursor, Due(row.schedule_id, row.version, row.done_until, future, [(future, task())]))

    assert found.state == "early"
    assert firings(rows) == []


def test_what_was_read_before_a_change_fires_nothing(cursor, put, rows):
    row = put()
    assert schedules.put(SQL, cursor, Put("report", {"args": [1]}), by=ME) == "changed"

    assert fire(cursor, due(row, 1)).state == "stale"
    assert firings(rows) == []
    assert fire(cursor, due(read(cursor), 1)).state == "fired"


def test_a_change_by_plain_sql_counts_as_one(cursor, put, rows):
    row = put()
    rows("UPDATE pipeline.schedule SET expression = '30'")

    assert fire(cursor, due(row, 1)).state == "stale"
    assert read(cursor).done_until > datetime.now(tz=UTC) - timedelta(minutes=1)


def test_of_a_new_timing_only_instants_from_now_on_count(cursor, put):
    put()
    schedules.put(SQL, cursor, Put("report", {"expression": "30"}), by=ME)

    assert fire(cursor, due(read(cursor), 1)).state == "stale"


def test_a_pause_fires_nothing_and_nothing_of_it_is_made_up_for(cursor, put, rows):
    row = put()
    assert schedules.pause(SQL, cursor, "report", by=ME)

    assert fire(cursor, due(row, 1)).state == "stale"
    assert fire(cursor, due(read(cursor), 1)).state == "stale"

    assert schedules.resume(SQL, cursor, "report", by=ME)
    assert read(cursor).done_until > datetime.now(tz=UTC) - timedelta(minutes=1)
    assert firings(rows) == []


def test_a_removed_schedule_fires_nothing_and_its_firings_stay(cursor, put, rows):
    row = put()
    fire(cursor, due(row, 1))
    assert schedules.remove(SQL, cursor, "report", by=ME) == "removed"

    assert fire(cursor, due(row, 2)).state == "stale"
    assert [each.schedule for each in schedules.firings(SQL, cursor, "report")] == ["report"]


def test_who_has_slept_cannot_fire_what_others_have_passed_over(cursor, put, rows):
    """One daemon woke up late, and its summary of what it missed differs from what the other has fired meanwhile."""
    row = put()
    fire(cursor, due(row, 10, missed=at(9), instants=9))

    assert fire(cursor, due(row, 8, 9, 10, 11, missed=at(7), instants=7)).state == "stale"
    assert firings(rows) == [(at(9), "m", 9, False), (at(10), "f", 1, True)]


def test_missed_instants_alone_move_a_schedule_on(cursor, put, rows):
    row = put()

    fire(cursor, Due(row.schedule_id, row.version, row.done_until, at(9), [], at(9), 9))

    assert firings(rows) == [(at(9), "m", 9, False)]
    assert read(cursor).done_until == at(9)


def test_two_at_once_fire_an_instant_once(cursor, put, rows, connect):
    """The second comes while the first has not committed, and goes away without waiting for it."""
    row = put()
    first = connect()
    with first.cursor() as slow:
        assert fire(slow, due(row, 1)).state == "fired"
        assert fire(cursor, due(row, 1)).state == "busy"
    first.commit()

    assert fire(cursor, due(row, 1)).state == "stale"
    assert firings(rows) == [(at(1), "f", 1, True)]


def test_many_at_once_fire_each_instant_once(put, rows, connect, cursor):
    """Eight read and fire as fast as they can until all of 50 instants are done."""
    row = put()

    def daemon(barrier):
        connection = connect(autocommit=True)
        with connection.cursor() as own:
            barrier.wait()
            while (now := read(own)).done_until < at(50):
                done = round((now.done_until - MIDNIGHT).total_seconds() / 60)
                fire(own, due(now, done + 1))

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=daemon, args=[barrier]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [due_at for due_at, *_ in firings(rows)] == [at(minute) for minute in range(1, 51)]
    assert waiting(rows) == 50
    assert row.version == read(cursor).version


def test_jitter_delays_the_task_and_not_the_instant_and_is_the_same_for_all(cursor, put, rows):
    row = put(jitter_seconds=3600)
    rows("UPDATE pipeline.schedule SET counts_from = now() - interval '1 minute', version = 1")
    row = read(cursor)
    instants = [row.done_until.replace(microsecond=0) + timedelta(seconds=1 + n) for n in range(50)]
    wanted = Due(row.schedule_id, row.version, row.done_until, instants[-1], [(each, task()) for each in instants])

    assert fire(cursor, wanted).state == "fired"

    spread = [
        (eta - due_at).total_seconds()
        for eta, due_at in rows("SELECT t.eta, f.due_at FROM pipeline.firing f JOIN pipeline.task t USING (message_id)")
    ]
    assert min(spread) >= 0
    assert max(spread) <= 3600 + 1
    assert max(spread) - min(spread) > 600


def test_overlap_skip_leaves_out_while_an_earlier_task_has_not_ended(cursor, put, rows):
    row = put(overlap="skip")
    fire(cursor, due(row, 1))

    assert fire(cursor, due(read(cursor), 2)).left_out == 1
    rows("SELECT pipeline.cancel_v1(message_id, 'me', '') FROM pipeline.firing WHERE message_id IS NOT NULL")
    assert fire(cursor, due(read(cursor), 3)).fired == 1

    assert [outcome for _, outcome, *_ in firings(rows)] == ["f", "o", "f"]


def test_overlap_cancel_ends_the_earlier_task(cursor, put, rows):
    row = put(overlap="cancel")
    fire(cursor, due(row, 1))
    fire(cursor, due(read(cursor), 2))

    states = rows("SELECT state FROM pipeline.schedule_firings ORDER BY due_at")
    assert states == [("cancelled",), ("queued",)]
    assert rows("SELECT who, source FROM pipeline.audit_log WHERE action = 'cancel'") == [("scheduler", "scheduler")]


def test_a_run_by_hand_is_noted_and_leaves_the_instants_alone(cursor, put, rows):
    row = put(paused=True)
    wanted = task()

    assert schedules.run(SQL, cursor, "report", row.version, wanted, ME) == ("fired", wanted.message_id)
    assert schedules.run(SQL, cursor, "report", row.version - 1, task(), ME) == ("stale", None)
    assert schedules.run(SQL, cursor, "unheard", 1, task(), ME) == ("unknown", None)

    assert read(cursor).done_until == MIDNIGHT
    (firing,) = schedules.firings(SQL, cursor, "report")
    assert (firing.is_manual, firing.fired_by, firing.task_id) == (True, "somebody", wanted.message_id)
    assert rows("SELECT who, reason, schedule FROM pipeline.audit_log WHERE action = 'run'") == [
        ("somebody", "a reason", "report")
    ]


def test_a_run_by_hand_obeys_overlap(cursor, put):
    row = put(overlap="skip")
    first = task()
    schedules.run(SQL, cursor, "report", row.version, first, ME)

    assert schedules.run(SQL, cursor, "report", row.version, task(), ME) == ("overlapping", first.message_id)


def test_changes_name_their_version_and_whose_they_are(cursor, put, rows):
    row = put()
    again = {"kind": "interval", "expression": "60"}

    assert schedules.put(SQL, cursor, Put("report", again), by=ME) == "same"
    assert schedules.put(SQL, cursor, Put("report", {"args": [1]}, expected=row.version + 1), by=ME) == "conflict"
    assert schedules.put(SQL, cursor, Put("report", {"args": [1]}, expected=0), by=ME) == "conflict"
    assert schedules.put(SQL, cursor, Put("new", again, expected=7), by=ME) == "conflict"
    assert schedules.put(SQL, cursor, Put("report", {"args": [1]}, declared_by="ours"), by=ME) == "declared"
    assert schedules.remove(SQL, cursor, "report", declared_by="ours", by=ME) == "declared"
    assert schedules.put(SQL, cursor, Put("report", {"args": [1]}, expected=row.version), by=ME) == "changed"
    assert rows("SELECT old_value->'args', new_value->'args' FROM pipeline.audit_log WHERE action = 'edit'") == [
        ([], [1])
    ]
    with pytest.raises(psycopg2.Error, match="a schedule has no colour"):
        schedules.put(SQL, cursor, Put("report", {"colour": "red"}), by=ME)


def test_the_purge_keeps_what_says_how_far_a_schedule_has_come(cursor, put, rows):
    row = put()
    fire(cursor, due(row, 1, 2, 3))
    rows("UPDATE pipeline.firing SET fired_at = now() - interval '90 days'")

    rows("SELECT * FROM pipeline.purge_v1(30, 1000)")

    assert [due_at for due_at, *_ in firings(rows)] == [at(3)]


def test_a_daemon_says_that_it_lives_and_that_it_ends(cursor):
    clock = datetime.now(tz=UTC) + timedelta(seconds=5)
    number, now = schedules.beat(SQL, cursor, None, Beat("here", 1, clock))
    schedules.beat(SQL, cursor, number, Beat("here", 1, clock, ["report"]))

    (row,) = schedules.schedulers(SQL, cursor)
    assert (row.scheduler_id, row.state, row.host, row.pid) == (number, "alive", "here", 1)
    assert row.failing == ["report"]
    assert timedelta(seconds=3) < row.clock_off < timedelta(seconds=6)
    assert abs(now - datetime.now(tz=UTC)) < timedelta(seconds=5)
    schedules.beat(SQL, cursor, number, Beat("here", 1, clock, ends=True))
    assert schedules.schedulers(SQL, cursor)[0].state == "stopped"


def test_what_is_read_to_be_fired_is_what_the_view_shows_but_for_the_last_task(cursor, put):
    row = put(tags=["nightly"], args=[1], kwargs={"a": None}, max_age_seconds=5)
    fire(cursor, due(row, 1))

    found = schedules.to_fire(SQL, cursor, row.schedule_id)

    nothing = dict.fromkeys(("last_due_at", "last_fired_at", "last_task_id", "last_state"))
    assert found == dataclasses.replace(read(cursor), **nothing)
    assert schedules.to_fire(SQL, cursor, row.schedule_id + 1) is None


def test_a_daemon_learns_the_versions_of_what_is_not_paused(cursor, put):
    row = put()
    put("other", paused=True)

    found, now = schedules.versions(SQL, cursor)

    assert found == {row.schedule_id: row.version}
    assert abs(now - datetime.now(tz=UTC)) < timedelta(seconds=5)


def test_a_task_whose_key_another_has_is_left_out(cursor, put, rows):
    put()
    keys = json.dumps({"unique_key": "one", "on_conflict": "error"})
    for minute in (1, 2):
        row = read(cursor)
        wanted = Due(row.schedule_id, row.version, row.done_until, at(minute), [(at(minute), task(keys=keys))])
        assert fire(cursor, wanted).state == "fired"

    assert [outcome for _, outcome, *_ in firings(rows)] == ["f", "o"]
