"""Weekly partitions: made ahead, dropped with what is unfinished carried, and never in anybody's way for long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import psycopg2
import pytest
from psycopg2 import errors

from tests.fixtures.broker import working
from tests.fixtures.logs import captured_logs
from tests.fixtures.wait import eventually

TABLES = ["attempt", "task", "task_log", "task_tag"]
PAYLOAD = '{"args": [1, 2], "kwargs": {}, "options": {}, "message_timestamp": 0}'


@pytest.fixture
def add(broker):
    """The actor of all tasks here; notes which attempt it was."""
    seen = []

    @dramatiq.actor(max_retries=3)
    def add(a, b):
        message = dramatiq.middleware.CurrentMessage.get_current_message()
        seen.append((message.task.attempt, message.options.get("retries")))
        return a + b

    add.seen = seen
    return add


def enqueue(cursor):
    call = "SELECT pipeline.enqueue_v1(gen_random_uuid(), 'default', 0, 'add', NULL, %s, 'n', NULL, false)"
    cursor.execute(f"SELECT pipeline.find_task_v1(({call}))", (PAYLOAD,))
    return cursor.fetchone()[0]


# --- making -----------------------------------------------------------------------------------------------------------


def test_two_weeks_ahead_are_made(keeper, cursor, rows, weeks, week):
    for table in TABLES:
        rows(f"DROP TABLE pipeline.{table}_w{week + 2}")

    with captured_logs() as logs:
        keeper.run(cursor)
        keeper.run(cursor)

    assert [weeks(table) for table in TABLES] == [{week, week + 1, week + 2}] * len(TABLES)
    assert [(each["event"], each["table"]) for each in logs] == [("partition.made", table) for table in TABLES]


def test_a_made_partition_is_like_those_of_the_migration(keeper, cursor, rows, week):
    rows(f"DROP TABLE pipeline.task_w{week + 2}")
    keeper.run(cursor)

    indexes = "SELECT count(*), bool_and(i.indisvalid) FROM pg_index i WHERE indrelid = %s::regclass"
    bounds = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = %s::regclass"

    assert rows(indexes, f"pipeline.task_w{week + 2}") == rows(indexes, f"pipeline.task_w{week}") == [(7, True)]
    first, last = (rows("SELECT pipeline.first_id(%s)", week + ahead)[0][0] for ahead in (2, 3))
    assert rows(bounds, f"pipeline.task_w{week + 2}") == [(f"FOR VALUES FROM ('{first}') TO ('{last}')",)]


def test_what_fell_into_the_default_partition_moves_with_its_week(keeper, cursor, rows, week, add_task):
    for table in ("task", "attempt"):
        rows(f"DROP TABLE pipeline.{table}_w{week}, pipeline.{table}_w{week + 1}")
    ids = {add_task(week, waits=True), add_task(week, outcomes="s"), add_task(week - 1, outcomes="s")}
    assert rows("SELECT count(*) FROM pipeline.task_default") == [(3,)]

    keeper.run(cursor)

    assert rows("SELECT count(*) FROM pipeline.task_default") == [(0,)]
    assert rows("SELECT count(*) FROM pipeline.attempt_default") == [(0,)]
    assert {each for (each,) in rows("SELECT id FROM pipeline.task")} == ids
    assert rows(f"SELECT count(*) FROM pipeline.attempt_w{week}") == [(1,)]


def test_many_workers_make_each_once(keeper, connect, rows, weeks, week):
    rows(f"DROP TABLE pipeline.task_w{week + 1}, pipeline.task_w{week + 2}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda connection: keeper.run(connection.cursor()), [connect(autocommit=True) for _ in range(4)]))
    keeper.run(connect(autocommit=True).cursor())

    assert weeks("task") == {week, week + 1, week + 2}


def test_somebody_in_the_way_is_given_up_quickly_and_tried_later(keeper, cursor, connect, rows, weeks, week):
    rows(f"DROP TABLE pipeline.task_w{week + 2}")
    with connect() as reader, reader.cursor() as reading:
        reading.execute("SELECT count(*) FROM pipeline.task")  # as pg_dump does, for hours

        started = time.monotonic()
        keeper.run(cursor)

        assert time.monotonic() - started < 2
        assert keeper.interval_seconds == 60
        assert week + 2 not in weeks("task")

    keeper.run(cursor)
    assert keeper.interval_seconds == 600
    assert week + 2 in weeks("task")


def test_a_reader_in_the_way_keeps_senders_waiting_for_a_moment_only(keeper, cursor, connect, rows, week):
    rows(f"DROP TABLE pipeline.task_w{week + 2}")
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    with connect() as reader, reader.cursor() as reading, connect(autocommit=True).cursor() as sender:
        reading.execute("SELECT count(*) FROM pipeline.task")
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(keeper.run, cursor)
            times = []
            while not working.done():
                started = time.monotonic()
                enqueue(sender)
                times.append(time.monotonic() - started)

        assert max(times, default=0) < 1


# --- ids at the edges (race 27) ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(rows):
    """Let ids be made as if it were another time: each id one millisecond after the one before."""

    def set_clock(milliseconds):
        rows("ALTER SEQUENCE pipeline.task_seq RESTART 1")
        rows(
            "CREATE OR REPLACE FUNCTION pipeline.next_task_id(p_now timestamptz) RETURNS bigint LANGUAGE sql VOLATILE"
            f" AS $$ SELECT (({milliseconds} + n) << 22) | n FROM nextval('pipeline.task_seq') AS n $$"
        )

    return set_clock


@pytest.mark.parametrize("is_made", [True, False])
def test_a_week_may_end_inside_one_send_many(add, broker, clock, rows, week, is_made):
    if not is_made:
        rows(f"DROP TABLE pipeline.task_w{week + 2}")
    clock((week + 2) * 604_800_000 - 3)

    broker.send_many([add.message(number, 1) for number in range(5)])

    tables = [table for (table,) in rows("SELECT tableoid::regclass::text FROM pipeline.task ORDER BY id")]
    after = f"pipeline.task_w{week + 2}" if is_made else "pipeline.task_default"
    assert tables == [f"pipeline.task_w{week + 1}"] * 2 + [after] * 3
    with working(broker):
        broker.join("default", timeout=20_000)
    assert rows("SELECT count(*) FROM pipeline.task_status WHERE state = 'succeeded'") == [(5,)]


def test_an_id_met_twice_is_made_anew(add, broker, clock, rows, week):
    """The clock was set back, and the sequence has come round to the same number."""
    clock(week * 604_800_000)
    first = add.send(1, 2)
    rows("ALTER SEQUENCE pipeline.task_seq RESTART 1")

    second = add.send(3, 4)
    rows("ALTER SEQUENCE pipeline.task_seq RESTART 2")
    broker.send_many([add.message(5, 6), add.message(7, 8)])

    assert rows("SELECT count(*), count(DISTINCT message_id) FROM pipeline.task") == [(4, 4)]
    with working(broker):
        assert [first.get_result(block=True), second.get_result(block=True)] == [3, 7]
        broker.join("default", timeout=20_000)


@pytest.fixture
def reading(connect, old_week, table):
    """A transaction that has read a table, as a backup does for hours; it ends with its block."""
    connection = connect()
    connection.cursor().execute(f"SELECT count(*) FROM pipeline.{table}")
    return connection


# --- dropping ---------------------------------------------------------------------------------------------------------


def test_a_week_is_dropped_and_what_is_unfinished_carried(keeper, cursor, rows, weeks, old_week, add_task):
    waiting, held = add_task(old_week, waits=True), add_task(old_week, is_held=True)
    add_task(old_week, outcomes="s")
    retried = add_task(old_week, waits=True, outcomes="rr")
    concluded = add_task(old_week, is_held=True, outcomes="s")
    rows("UPDATE pipeline.claim SET runs = '{1}' WHERE ids = %s", [concluded])  # concluded, its batch not yet closed

    with captured_logs() as logs:
        keeper.run(cursor)

    assert logs == [{"event": "week.dropped", "week": old_week, "carried": 3, "log_level": "info"}]
    assert old_week not in weeks("task") | weeks("attempt")
    assert {each for (each,) in rows("SELECT id FROM pipeline.task_carry")} == {waiting, held, retried}
    assert rows("SELECT task_id, run, attempt FROM pipeline.attempt ORDER BY run") == [(retried, 1, 1), (retried, 2, 2)]
    rows("DELETE FROM pipeline.claim")


def test_carried_tasks_run_with_their_id_their_attempts_and_what_their_retry_left(
    keeper, cursor, add, broker, rows, old_week, add_task
):
    add_task(old_week, waits=True)
    add_task(old_week, waits=True, outcomes="rr")
    keeper.run(cursor)

    with working(broker):
        broker.join("default", timeout=20_000)

    assert sorted(add.seen, key=str) == [(1, None), (3, 2)]
    assert rows("SELECT state, attempt, result FROM pipeline.task_status ORDER BY attempt") == [
        ("succeeded", 1, 23),
        ("succeeded", 3, 23),
    ]
    assert rows("SELECT run, outcome FROM pipeline.attempt_history ORDER BY attempt, run")[-2:] == [
        (2, "retry"),
        (3, "succeeded"),
    ]


def test_the_fence_holds_for_a_run_that_was_held_while_its_week_was_dropped(keeper, cursor, rows, old_week, add_task):
    held = add_task(old_week, is_held=True)
    keeper.run(cursor)
    conclude = "SELECT pipeline.seal_v1(1, %s, 1, 's', 1, 1, 0, NULL, NULL)"

    rows(conclude, held)
    with pytest.raises(psycopg2.Error, match="concluded by somebody else"):
        rows(conclude, held)
    rows("DELETE FROM pipeline.claim")


def test_a_younger_week_stays(keeper, cursor, rows, weeks, week, add_task):
    oldest = rows("SELECT pipeline.week_at(now() - interval '30 days')")[0][0]
    for each in (oldest - 1, oldest, oldest + 1):
        rows("SELECT pipeline.make_partition_v1('task', %s)", each)

    keeper.run(cursor)

    assert weeks("task") == {oldest, oldest + 1, week, week + 1, week + 2}


def test_many_waiting_tasks_are_carried_in_small_steps(keeper, cursor, rows, weeks, old_week, add_task, monkeypatch):
    monkeypatch.setattr("pipeline.maintenance.partitions._CARRY_LIMIT", 2)
    monkeypatch.setattr("pipeline.maintenance.partitions._BATCHES", 2)
    for _ in range(5):
        add_task(old_week, waits=True)

    keeper.run(cursor)
    assert (keeper.interval_seconds, old_week in weeks("task")) == (1, True)
    keeper.run(cursor)

    assert (keeper.interval_seconds, old_week in weeks("task")) == (600, False)
    assert rows("SELECT count(*) FROM pipeline.task_carry") == [(5,)]


@pytest.mark.parametrize("table", ["task", "attempt"])
def test_a_reader_in_the_way_postpones_the_drop_and_nothing_is_lost(
    keeper, cursor, rows, weeks, old_week, add_task, reading
):
    add_task(old_week, waits=True, outcomes="r")
    with reading:
        keeper.run(cursor)

        assert old_week in weeks("task") & weeks("attempt")
        assert rows("SELECT count(*) FROM pipeline.task_status WHERE state = 'queued'") == [(1,)]
        assert rows("SELECT count(*) FROM pipeline.attempt_history") == [(1,)]
    keeper.run(cursor)

    assert old_week not in weeks("task") | weeks("attempt")


def test_a_finished_task_that_is_enqueued_anew_is_not_dropped(cursor, connect, rows, old_week, add_task):
    """It was finished when the week's unfinished tasks were carried, and waits again when the week is to be dropped."""
    task = add_task(old_week, outcomes="s")
    rows("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", old_week)
    message_id = rows("SELECT message_id FROM pipeline.task")[0][0]
    again = "SELECT pipeline.enqueue_v1(%s, 'default', 0, 'add', NULL, %s, 'u', NULL, false)"
    with connect() as sender, sender.cursor() as sending:
        sending.execute(again, (message_id, PAYLOAD))

        with pytest.raises(errors.LockNotAvailable):  # the sender has not committed
            cursor.execute("SELECT pipeline.drop_week_v1(%s)", (old_week,))
    with pytest.raises(errors.LockNotAvailable, match="enqueued again"):
        cursor.execute("SELECT pipeline.drop_week_v1(%s)", (old_week,))

    rows("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", old_week)
    cursor.execute("SELECT pipeline.drop_week_v1(%s)", (old_week,))

    assert rows("SELECT id FROM pipeline.task_carry") == [(task,)]
    assert rows("SELECT run FROM pipeline.ready") == [(2,)]


@pytest.fixture
def hub(connect, rows):
    """Claim as a registered worker does; returns what was handed over: id, attempt, arguments and patch."""
    worker = rows("SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')")[0][0]
    nothing = ", ".join(["'{}'"] * 8)

    def claim(cursor):
        cursor.execute(
            f"SELECT id, attempt, payload->'args', patch FROM pipeline.exchange_v1({worker}, 1, {nothing}, NULL, false,"
            " '{}', '{default}', 10, NULL, NULL) WHERE id IS NOT NULL ORDER BY id"
        )
        return cursor.fetchall()

    yield claim
    rows("DELETE FROM pipeline.claim; UPDATE pipeline.worker SET state = 's'")


@pytest.fixture
def claim_during(hub, connect, rows):
    """Claim while a statement about partitions is at work: it has done everything and not yet committed."""
    claims, keeping = connect(autocommit=True).cursor(), connect()
    hub(claims)  # its plans are made

    def claim_during(statement, *parameters):
        keeping.cursor().execute(statement, parameters)
        with ThreadPoolExecutor(1) as pool:
            claiming = pool.submit(hub, claims)
            eventually(lambda: rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            keeping.commit()
            return claiming.result()

    return claim_during


def test_a_claim_that_waits_for_the_drop_finds_its_payload_and_its_history(claim_during, rows, old_week, add_task):
    first = add_task(old_week, waits=True)
    second = add_task(old_week, waits=True, outcomes="rr")
    rows("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", old_week)

    found = claim_during("SELECT pipeline.drop_week_v1(%s)", old_week)

    assert found == [(first, 1, [20, 3], None), (second, 3, [20, 3], {"retries": 2})]


def test_a_claim_that_waits_for_tasks_to_be_carried_finds_each_once(claim_during, rows, week, old_week, add_task):
    ids = [
        add_task(each, waits=True, outcomes=outcomes)
        for each, outcomes in ((old_week, ""), (old_week, "r"), (week, ""))
    ]
    found = claim_during("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", old_week)

    assert [task for task, *_ in found] == sorted(ids)


def test_a_claim_that_waits_for_a_partition_finds_what_moved_into_it(claim_during, rows, week, add_task):
    """Its statement had looked at the clock before the rows were moved, and looks at the new partition only."""
    rows(f"DROP TABLE pipeline.task_w{week + 2}, pipeline.attempt_w{week + 2}")
    ids = [add_task(week + 2, waits=True, outcomes=outcomes) for outcomes in ("", "r")]

    found = claim_during(
        "SELECT pipeline.make_partition_v1('task', %s), pipeline.make_partition_v1('attempt', %s)", week + 2, week + 2
    )

    assert [(task, attempt) for task, attempt, *_ in found] == [(ids[0], 1), (ids[1], 2)]


def test_a_claim_under_way_keeps_its_week_in_place(hub, connect, cursor, rows, old_week, add_task):
    """Or the exchange could read a payload where it was and once more where it is carried to."""
    task = add_task(old_week, waits=True)
    with connect() as claiming, claiming.cursor() as claims:
        assert [found for found, *_ in hub(claims)] == [task]

        with pytest.raises(errors.LockNotAvailable):
            cursor.execute("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", (old_week,))
    cursor.execute("SELECT pipeline.carry_tasks_v1(%s, 0, 100)", (old_week,))

    assert rows("SELECT id FROM pipeline.task_carry") == [(task,)]


@pytest.mark.stress
def test_senders_and_workers_go_on_while_weeks_come_and_go(keeper, cursor, add, broker, rows, week, add_task):
    """Everything that is enqueued in between runs once, whatever week it is of."""
    is_over = threading.Event()
    sent, old_tasks = [], []

    def send():
        while not is_over.is_set():
            sent.append(add.send(len(sent), 1).message_id)

    with working(broker):
        sender = threading.Thread(target=send)
        sender.start()
        try:
            for round_ in range(6):
                old = week - 6 - round_
                for table in ("task", "attempt"):
                    eventually(lambda table=table, week=old: _is_made(rows, table, week))
                for number in range(20):
                    old_tasks.append(add_task(old, waits=True, due_in=1.5 * (number % 2), outcomes="r"))
                    add_task(old, outcomes="s")
                rows(f"DROP TABLE IF EXISTS pipeline.task_w{week + 2}")
                eventually(lambda: _is_done(keeper, cursor, rows), within=20)
        finally:
            is_over.set()
            sender.join()
        broker.join("default", timeout=30_000)

    assert len(add.seen) == len(sent) + 120
    assert rows("SELECT count(*) FROM pipeline.task_status WHERE state <> 'succeeded'") == [(0,)]
    attempts = rows("SELECT attempt, count(*) FROM pipeline.task_status WHERE id = ANY (%s) GROUP BY 1", old_tasks)
    carried = rows("SELECT count(*) FROM pipeline.task_carry")[0][0]
    assert carried >= 10
    assert attempts[0][0] == 2
    assert len(attempts) == 1


def _is_made(rows, table, week):
    try:
        rows("SELECT pipeline.make_partition_v1(%s, %s)", table, week)
    except errors.LockNotAvailable:  # a sender was in the way
        return False
    return True


def _is_done(keeper, cursor, rows):
    keeper.run(cursor)
    return keeper.interval_seconds == 600


def test_an_unknown_table_has_no_partitions(cursor):
    with pytest.raises(psycopg2.DataError):
        cursor.execute("SELECT pipeline.make_partition_v1('ready', 1)")
