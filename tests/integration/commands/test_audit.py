"""Every command is noted: who, why, from where, and what it changed; and what is noted stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg2 import errors

import pipeline
from pipeline import PostgresBroker
from pipeline.runtime import ask
from pipeline.store import audit, tasks
from pipeline.store.audit import By, acting_from

Rows = Callable[..., list[tuple[Any, ...]]]

ADA = {"who": "ada", "reason": "so"}
HOUR = timedelta(hours=1)


@pytest.fixture
def greet(broker: PostgresBroker, rows: Rows) -> Any:
    @pipeline.actor(max_retries=0)
    def greet() -> None: ...

    broker.sender.ensure_lanes([("letters", 0), ("default", 0)])
    rows("INSERT INTO pipeline.actor (name, queue, priority) VALUES ('greet', 'default', 0)")
    return greet


@pytest.fixture
def noted() -> Callable[[], audit.AuditRow]:
    """The newest entry, and nothing before it but what the test has read."""
    return lambda: ask(audit.newest, limit=1)[0]


def test_a_command_on_a_task_notes_its_state_before_and_after(greet: Any, noted: Any) -> None:
    task_id = greet.send_with_options(delay=60_000).message_id

    pipeline.retry_now(task_id, **ADA)
    entry = noted()
    assert (entry.action, entry.task_id, entry.who, entry.reason) == ("retry", task_id, "ada", "so")
    assert (entry.old_value["state"], entry.new_value["state"]) == ("scheduled", "queued")
    assert entry.old_value["eta"] > entry.new_value["eta"]

    pipeline.cancel(task_id, **ADA)
    assert (noted().action, noted().old_value, noted().new_value) == (
        "cancel",
        {"state": "queued"},
        {"state": "cancelled"},
    )

    pipeline.retry_now(task_id, **ADA)
    assert (noted().old_value, noted().new_value) == ({"state": "cancelled"}, {"state": "queued"})


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        (lambda task_id: pipeline.reprioritise(task_id, -5, **ADA), {"priority": 0}, {"priority": -5}),
        (lambda task_id: pipeline.move_task(task_id, "letters", **ADA), {"queue": "default"}, {"queue": "letters"}),
    ],
)
def test_what_a_task_is_given_is_noted_with_what_it_had(
    greet: Any, noted: Any, command: Any, old: dict[str, Any], new: dict[str, Any]
) -> None:
    command(greet.send().message_id)

    assert (noted().old_value, noted().new_value) == (old, new)


@pytest.mark.parametrize("action", ["snooze", "reschedule"])
def test_the_time_a_task_waits_for_is_noted(greet: Any, noted: Any, rows: Rows, action: str) -> None:
    task_id = greet.send().message_id
    before = rows("SELECT to_jsonb(eta) FROM pipeline.ready")[0][0]

    if action == "snooze":
        pipeline.snooze(task_id, for_=HOUR, **ADA)
    else:
        pipeline.reschedule(task_id, eta=rows("SELECT now() + interval '1 hour'")[0][0], **ADA)

    assert noted().action == action
    assert noted().old_value == {"eta": before}
    assert noted().new_value == {"eta": rows("SELECT to_jsonb(eta) FROM pipeline.ready")[0][0]}


def test_a_clone_and_its_original_name_each_other(greet: Any) -> None:
    original = greet.send().message_id

    copy = pipeline.clone(original, **ADA)

    of_copy, of_original = ask(audit.newest)
    assert (of_original.action, of_original.task_id, of_original.new_value) == ("clone", original, {"clone": copy})
    assert (of_copy.action, of_copy.task_id, of_copy.new_value) == ("enqueue", copy, {"clone_of": original})


def test_a_pause_is_noted_with_its_end(greet: Any, noted: Any) -> None:
    for pause, resume in (
        (pipeline.pause_queue, pipeline.resume_queue),
        (pipeline.pause_actor, pipeline.resume_actor),
    ):
        name = "default" if pause is pipeline.pause_queue else "greet"
        pause(name, resume_after=HOUR, **ADA)
        paused = noted()
        assert (paused.action, paused.old_value) == ("pause", {"paused": False})
        assert paused.new_value["paused"] is True
        assert paused.new_value["resume_at"] > paused.at.isoformat()

        pause(name, **ADA)
        assert (noted().old_value, noted().new_value) == (paused.new_value, {"paused": True})
        resume(name, **ADA)
        assert (noted().action, noted().old_value, noted().new_value) == ("resume", {"paused": True}, {"paused": False})


def test_limits_and_weights_are_noted_with_the_numbers_before(greet: Any, noted: Any) -> None:
    for name, limit in (("default", pipeline.limit_queue), ("greet", pipeline.limit_actor), ("x", pipeline.limit_key)):
        limit(name, 3, **ADA)
        assert (noted().action, noted().old_value, noted().new_value) == (
            "limit",
            {"max_running": None},
            {"max_running": 3},
        )
        limit(name, None, **ADA)
        assert (noted().old_value, noted().new_value) == ({"max_running": 3}, {"max_running": None})
    pipeline.weigh_queue("default", 2.5, **ADA)
    assert (noted().action, noted().queue) == ("weigh", "default")
    assert (noted().old_value, noted().new_value) == ({"weight": 1}, {"weight": 2.5})


@pytest.mark.leaves("worker")
def test_a_drain_names_the_worker(greet: Any, noted: Any, rows: Rows) -> None:
    worker = rows("SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')")[0][0]

    pipeline.drain_worker(worker, **ADA)

    assert (noted().action, noted().worker_id, noted().reason) == ("drain", worker, "so")
    assert (noted().old_value, noted().new_value) == ({"state": "alive"}, {"state": "draining"})


def test_commands_on_many_tasks_tell_how_many(greet: Any, broker: PostgresBroker, noted: Any) -> None:
    greet.send(), greet.send()
    pipeline.cancel_where(queue="default", actor="greet", dry_run=False, **ADA)
    assert (noted().action, noted().queue, noted().reason) == ("cancel_where", "default", "so")
    assert (noted().old_value, noted().new_value) == ({"actor": "greet"}, {"waiting": 2, "running": 0})

    greet.send()
    broker.flush("default")
    assert (noted().action, noted().queue, noted().new_value) == ("flush", "default", {"cancelled": 1})

    ask(tasks.repair_ready, By("ada", "restored"))
    assert (noted().action, noted().who, noted().reason, noted().new_value) == (
        "repair",
        "ada",
        "restored",
        {"tasks": 0},
    )


def test_it_is_told_where_a_command_came_from(greet: Any, noted: Any, rows: Rows) -> None:
    task_id = greet.send().message_id

    pipeline.snooze(task_id, for_=HOUR, **ADA)
    assert noted().source == "python"
    with acting_from("cli"):
        pipeline.snooze(task_id, for_=2 * HOUR, **ADA)
    assert noted().source == "cli"
    rows("SELECT pipeline.cancel_v1(%s, 'ada', 'so')", task_id)
    assert noted().source == "sql"
    pipeline.retry_now(task_id, **ADA)
    assert noted().source == "python"


def test_entries_are_found_by_task_by_person_and_by_time(greet: Any, rows: Rows) -> None:
    one, two = greet.send().message_id, greet.send().message_id
    pipeline.cancel(one, who="ada")
    pipeline.cancel(two, who="bob")
    (before,) = rows("SELECT now()")[0]
    pipeline.retry_now(two, who="ada")

    assert [each.action for each in ask(audit.newest, audit.AuditFilters(task_id=two))] == ["retry", "cancel"]
    assert [each.task_id for each in ask(audit.newest, audit.AuditFilters(who="ada"))] == [two, one]
    assert [each.action for each in ask(audit.newest, audit.AuditFilters(since=before))] == ["retry"]
    assert len(ask(audit.newest, limit=2)) == 2


def test_an_entry_names_its_task_also_when_that_is_gone(greet: Any, noted: Any, rows: Rows) -> None:
    task_id = greet.send().message_id
    pipeline.cancel(task_id, **ADA)

    rows("DELETE FROM pipeline.task")

    assert noted().task_id == task_id


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pipeline.audit SET who = 'nobody'",
        "DELETE FROM pipeline.audit",
        "DELETE FROM pipeline.audit WHERE false",
        "TRUNCATE pipeline.audit",
    ],
)
def test_not_even_the_owner_changes_what_was_noted(greet: Any, noted: Any, rows: Rows, statement: str) -> None:
    pipeline.cancel(greet.send().message_id, **ADA)

    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        rows(statement)

    assert noted().who == "ada"


def test_the_rest_of_a_transaction_that_purges_may_not_either(greet: Any, connect: Any) -> None:
    with connect() as session, session.cursor() as cursor:
        cursor.execute("SELECT * FROM pipeline.purge_v1(30, 10)")
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            cursor.execute("DELETE FROM pipeline.audit")
