"""What is deleted when nobody needs it any more, and what is not."""

from __future__ import annotations

from uuid import uuid4

import dramatiq_pg
import pytest

from tests.fixtures.logs import captured_logs


def _count(rows, table):
    return rows(f"SELECT count(*) FROM pipeline.{table}")[0][0]


def test_ended_workers_go_when_no_attempt_can_name_them_any_more(purger, cursor, rows):
    """A week of attempts is dropped when its last day is older than the retention time."""
    for state, age in (("s", "38 days"), ("d", "38 days"), ("s", "36 days"), ("s", "1 hour")):
        rows(
            "INSERT INTO pipeline.worker (pid, threads, host, queues, state, ended_at)"
            " VALUES (1, 1, 'here', '{}', %s, now() - %s::interval)",
            state,
            age,
        )

    with captured_logs() as logs:
        purger.run(cursor)

    assert _count(rows, "worker") == 2
    assert logs == [{"event": "purge.done", "worker": 2, "log_level": "info"}]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("kept_result", "(message_id, result_until) SELECT gen_random_uuid(), now() + x * interval '1 min'"),
        ("rate_limit", "(key, value, expires_at) SELECT x::text, 1, now() + x * interval '1 min'"),
        ("audit", "(at, action, who) SELECT now() - (30 - x) * interval '1 day', 'cancel', 'me'"),
        (
            "inbox_rejected",
            "(rejected_at, message_id, inbox, queue_name, reason)"
            " SELECT now() - (30 - x) * interval '1 day', gen_random_uuid(), '', '', ''",
        ),
    ],
)
def test_what_is_too_old_goes(purger, cursor, rows, table, columns):
    rows(f"INSERT INTO pipeline.{table} {columns} FROM (VALUES (-2), (-1), (1)) AS v(x)")

    purger.run(cursor)

    assert _count(rows, table) == 1


def test_progress_and_checkpoints_go_with_their_task(keeper, purger, cursor, rows, week, old_week, add_task):
    gone, carried, young = (
        add_task(old_week, outcomes="s"),
        add_task(old_week, waits=True),
        add_task(week, outcomes="s"),
    )
    for task in (gone, carried, young):
        rows("INSERT INTO pipeline.progress VALUES (%s, now(), 50, '')", task)
        rows("INSERT INTO pipeline.checkpoint VALUES (%s, now(), 1, '1')", task)
    purger.run(cursor)
    assert _count(rows, "progress") == 3

    keeper.run(cursor)
    purger.run(cursor)

    for table in ("progress", "checkpoint"):
        assert {each for (each,) in rows(f"SELECT task_id FROM pipeline.{table}")} == {carried, young}


def test_a_group_goes_when_its_members_have(keeper, purger, cursor, rows, old_week, add_task):
    complete, failed, waiting, young = (str(uuid4()) for _ in range(4))
    add_task(old_week, waits=True, group_completion_uuid=waiting)
    keeper.run(cursor)
    for group, remaining, age in ((complete, 0, 40), (failed, 1, 40), (waiting, 1, 40), (young, 1, 1)):
        rows("INSERT INTO pipeline.task_group VALUES (%s, now() - %s * interval '1 day', %s)", group, age, remaining)
        rows("INSERT INTO pipeline.group_member VALUES (%s, 5)", group)

    purger.run(cursor)

    assert {each for (each,) in rows("SELECT group_id FROM pipeline.task_group")} == {waiting, young}
    assert {each for (each,) in rows("SELECT group_id FROM pipeline.group_member")} == {waiting, young}


def test_a_carried_task_is_kept_as_long_as_any_other_after_its_end(keeper, purger, cursor, rows, old_week, add_task):
    task, other = add_task(old_week, waits=True, outcomes="r"), add_task(old_week, waits=True)
    keeper.run(cursor)
    purger.run(cursor)
    assert _count(rows, "task_carry") == 2

    rows("DELETE FROM pipeline.ready WHERE id = %s", task)
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at) VALUES (%s, 2, 2, 's', now())", task
    )
    purger.run(cursor)
    assert _count(rows, "task_carry") == 2

    rows("UPDATE pipeline.attempt SET finished_at = now() - interval '31 days'")
    purger.run(cursor)

    assert rows("SELECT id FROM pipeline.task_carry") == [(other,)]
    assert _count(rows, "attempt") == 0


def test_a_carried_task_that_somebody_enqueues_anew_is_not_forgotten(
    keeper, purger, cursor, connect, rows, old_week, add_task
):
    add_task(old_week, waits=True)
    keeper.run(cursor)
    rows("DELETE FROM pipeline.ready")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT id, 1, 1, 's', now() - interval '31 days' FROM pipeline.task_carry"
    )
    message_id = rows("SELECT message_id FROM pipeline.task_carry")[0][0]
    with connect() as sender, sender.cursor() as sending:
        sending.execute(
            "SELECT pipeline.enqueue_v1(%s, 'default', 0, 'add', NULL, '{}', 'u', NULL, false)", (message_id,)
        )

        purger.run(cursor)

    assert rows("SELECT run FROM pipeline.ready JOIN pipeline.task_carry USING (id)") == [(2,)]


def test_rows_that_somebody_has_locked_are_left_for_the_next_time(purger, cursor, connect, rows):
    rows("INSERT INTO pipeline.rate_limit SELECT now() - interval '1 min', 1, x::text FROM generate_series(1, 3) x")
    with connect() as other, other.cursor() as locking:
        locking.execute("SELECT 1 FROM pipeline.rate_limit WHERE key = '2' FOR UPDATE")

        purger.run(cursor)

        assert rows("SELECT key FROM pipeline.rate_limit") == [("2",)]


def test_more_than_one_transaction_holds_is_gone_on_with_soon(purger, cursor, rows, monkeypatch):
    monkeypatch.setattr("pipeline.maintenance.purger._LIMIT", 2)
    rows("INSERT INTO pipeline.rate_limit SELECT now() - interval '1 min', 1, x::text FROM generate_series(1, 3) x")

    purger.run(cursor)
    assert (purger.interval_seconds, _count(rows, "rate_limit")) == (5, 1)
    purger.run(cursor)

    assert (purger.interval_seconds, _count(rows, "rate_limit")) == (600, 0)


def test_one_worker_at_a_time_purges(purger, cursor, connect, rows):
    rows("INSERT INTO pipeline.rate_limit VALUES (now() - interval '1 min', 1, 'key')")
    with connect() as other, other.cursor() as locking:
        locking.execute("SELECT pg_advisory_lock(hashtextextended('pipeline purge', 0))")

        purger.run(cursor)

        assert _count(rows, "rate_limit") == 1
        locking.execute("SELECT pg_advisory_unlock_all()")


def test_answers_in_the_inbox_go_when_their_time_is_over(purger, cursor, rows):
    rows(dramatiq_pg.generate_init_sql())
    rows(
        "INSERT INTO dramatiq.queue (message_id, queue_name, state, result_ttl)"
        " SELECT gen_random_uuid(), '__RQ__', 'done', now() - x * interval '20 hours' FROM generate_series(0, 3) x"
    )

    purger.run(cursor)

    assert rows("SELECT count(*) FROM dramatiq.queue") == [(2,)]


def test_a_table_that_only_has_the_name_of_an_inbox_stops_nothing(purger, cursor, rows):
    rows("CREATE SCHEMA dramatiq; CREATE TABLE dramatiq.queue (id int)")

    purger.run(cursor)


def test_nothing_is_deleted_in_larger_batches_than_one_transaction_may_hold(cursor, rows):
    rows(
        "INSERT INTO pipeline.audit (at, action, who) SELECT now() - interval '1 year', 'x', 'y' FROM generate_series(1, 25)"
    )
    rows("INSERT INTO pipeline.rate_limit SELECT now() - interval '1 min', 1, n::text FROM generate_series(1, 25) n")
    rows("INSERT INTO pipeline.group_member SELECT gen_random_uuid(), n FROM generate_series(1, 25) n")
    rows("INSERT INTO pipeline.slot SELECT n, 1, 'key:a' FROM generate_series(1, 25) n")
    rows("INSERT INTO pipeline.ordering SELECT n, 'a' FROM generate_series(1, 25) n")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT n, 1, 1, 's', now() FROM generate_series(1, 25) n"
    )
    kinds = {"audit", "rate_limit", "group_member", "slot", "ordering"}

    batches = []
    for _ in range(4):
        cursor.execute("SELECT kind, deleted FROM pipeline.purge_v1(30, 10)")
        batches.append({kind: deleted for kind, deleted in cursor.fetchall() if kind in kinds})

    assert [set(batch.values()) for batch in batches] == [{10}, {10}, {5}, {0}]


def test_carried_tasks_that_are_over_are_forgotten_in_batches(keeper, cursor, rows, old_week, add_task):
    for _ in range(5):
        add_task(old_week, waits=True)
    keeper.run(cursor)
    rows("DELETE FROM pipeline.ready")
    rows(
        "INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at)"
        " SELECT id, 1, 1, 's', now() - interval '31 days' FROM pipeline.task_carry"
    )

    batches = [rows("SELECT pipeline.purge_carried_v1(30, 2)")[0][0] for _ in range(4)]

    assert batches == [2, 2, 1, 0]


def test_a_week_with_many_tasks_is_dropped_without_deleting_them(keeper, cursor, rows, old_week):
    """Dropping is a change of the catalog: no row dies, so there is nothing to vacuum."""
    rows(
        "INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)"
        " SELECT pipeline.first_id(%s) + n, now(), now(), gen_random_uuid(), 1, 's', 'add', '{}' FROM generate_series(1, 20000) n",
        old_week,
    )
    written = "SELECT coalesce(sum(n_tup_del), 0) FROM pg_stat_xact_all_tables WHERE schemaname = 'pipeline'"
    cursor.execute("SET lock_timeout = 0; BEGIN")
    cursor.execute("SELECT pipeline.carry_tasks_v1(%s, 0, 500), pipeline.drop_week_v1(%s)", (old_week, old_week))
    cursor.execute(written)
    deleted = cursor.fetchone()[0]
    cursor.execute("COMMIT")

    assert deleted == 0
    assert rows("SELECT count(*) FROM pipeline.task") == [(0,)]
