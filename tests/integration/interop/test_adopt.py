"""What is moved out of the inbox, what is set aside, and what stays."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import dramatiq_pg.broker
import psycopg2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.db.statements import load
from pipeline.maintenance.inbox_adopter import InboxAdopter
from tests.fixtures.logs import captured_logs

WHERE = ("dramatiq", "")


@pytest.fixture
def adopt(rows):
    """Adopt once, as a worker does; returns (adopted, rejected, missing queues, missing priorities)."""
    return lambda limit=500: rows("SELECT * FROM pipeline.adopt_inbox_v1('dramatiq', '', %s)", limit)[0]


@pytest.fixture
def cursor(connect):
    with connect(autocommit=True).cursor() as cursor:
        yield cursor


@pytest.fixture
def adopter():
    return InboxAdopter(WHERE, load("pipeline"))


def test_a_row_becomes_a_task_and_is_gone(put, announce, message, adopt, rows):
    announce("default")
    message_id = put(message(kwargs={"c": 3}, options={"max_retries": 1}))

    assert adopt() == (1, 0, None, None)

    assert rows("SELECT origin, message_id, actor, payload FROM pipeline.task") == [
        (
            "x",
            message_id,
            "add",
            {
                "answer": True,
                "args": [1, 2],
                "kwargs": {"c": 3},
                "options": {"max_retries": 1},
                "message_timestamp": 1_700_000_000_000,
            },
        )
    ]
    assert rows("SELECT * FROM dramatiq.queue") == []


def test_an_adopted_task_has_the_labels_among_its_options(put, announce, message, adopt, rows):
    announce("default")
    labels = {"tags": ["a", "b"], "entity": "invoice:4711", "tenant": "north", "correlation_id": "c1"}
    put(message(options=labels | {"max_retries": 1, "tags": ["b", "a"], "entity": ["invoice", 4711]}))

    assert adopt() == (1, 0, None, None)

    assert rows("SELECT labels FROM pipeline.task") == [(labels,)]
    assert rows("SELECT tag FROM pipeline.task_tag ORDER BY tag") == [("a",), ("b",)]


def test_what_another_system_means_by_those_names_is_no_label(put, announce, message, adopt, rows):
    announce("default")
    put(message(options={"tags": {"a": 1}, "entity": "invoice", "tenant": 7, "correlation_id": "c1"}))
    put(message(options={"tags": "a,b", "entity": [1], "tenant": "", "correlation_id": None}))

    assert adopt() == (2, 0, None, None)

    assert rows("SELECT labels FROM pipeline.task ORDER BY id") == [({"correlation_id": "c1"},), (None,)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "the message is not a JSON object"),
        ([1, 2], "the message is not a JSON object"),
        ('"text"', "the message is not a JSON object"),
        ({"actor_name": None}, "actor_name is not a string"),
        ({"actor_name": 5}, "actor_name is not a string"),
        ({"actor_name": "O'Hara"}, "no worker ever announced the actor 'O''Hara'"),
        ({"args": None}, "args is not an array"),
        ({"args": {"a": 1}}, "args is not an array"),
        ({"kwargs": [1]}, "kwargs is not an object"),
        ({"options": "none"}, "options is not an object"),
        ({"options": {"eta": "tomorrow"}}, "options.eta is not a time in milliseconds"),
        ({"options": {"eta": -1}}, "options.eta is not a time in milliseconds"),
        ({"options": {"eta": 1e300}}, "options.eta is not a time in milliseconds"),
        ({"options": {"eta": False}}, "options.eta is not a time in milliseconds"),
    ],
)
def test_a_malformed_row_is_set_aside_with_a_reason_and_blocks_nobody(
    put, announce, message, adopt, rows, broken, reason
):
    announce("default")
    row = message(**broken) if isinstance(broken, dict) else broken
    message_id = put(row, queue="default.DQ")
    put(message())

    assert adopt() == (1, 1, None, None)
    assert adopt() == (0, 0, None, None)

    assert rows("SELECT message_id, queue_name, reason, inbox FROM pipeline.inbox_rejected") == [
        (message_id, "default.DQ", reason, "dramatiq.queue")
    ]
    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("a\"\\'%{}é", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["eta", "priority", "tags", "entity", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
_fields = ["actor_name", "args", "kwargs", "options", "message_timestamp", "message_id", "queue_name"]


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(_fields), _json, max_size=3))
def test_no_message_whatever_stops_the_adoption(put, announce, message, adopt, rows, fields):
    if not rows("SELECT 1 FROM pipeline.worker"):
        announce("default")
    put(message() | fields)

    adopted, rejected, _, missing = adopt()
    if (adopted, rejected) == (0, 0):  # its priority has no lane yet, which is asked for
        rows("SELECT pipeline.ensure_lane_v1('default', %s)", missing[0])
        adopted, rejected, _, _ = adopt()

    assert adopted + rejected == 1
    assert rows("SELECT count(*) FROM dramatiq.queue") == [(0,)]


def test_rows_of_queues_that_nobody_consumes_stay(put, announce, message, adopt, rows):
    announce("default")
    rows("UPDATE pipeline.worker SET state = 's'")
    put(message())
    announce("other")

    assert adopt() == (0, 0, None, None)


def test_a_missing_lane_is_made_first_and_the_row_keeps_its_priority(put, announce, message, adopter, cursor, rows):
    announce("default")
    put(message(options={"priority": 7}))
    put(message(options={"priority": "high"}))

    adopter.run(cursor)

    assert rows("SELECT l.priority FROM pipeline.ready JOIN pipeline.lane l USING (lane_id) ORDER BY 1") == [(0,), (7,)]


def test_delayed_rows_are_oldest_first_and_bounded(put, announce, message, adopt, rows):
    announce("default")
    ids = [put(message()) for _ in range(5)]

    assert adopt(3) == (3, 0, None, None)

    assert {row[0] for row in rows("SELECT message_id FROM dramatiq.queue")} == set(ids[3:])


def test_a_row_that_somebody_has_locked_is_left(put, announce, message, adopt, connect):
    announce("default")
    locked, _ = put(message()), put(message())
    with connect().cursor() as cursor:
        cursor.execute("SELECT FROM dramatiq.queue WHERE message_id = %s FOR UPDATE", (locked,))

        assert adopt() == (1, 0, None, None)


def test_a_row_that_dramatiq_pg_takes_at_the_same_time_is_had_by_one(put, announce, message, adopt, connect):
    announce("default")
    put(message())
    with connect() as theirs, theirs.cursor() as cursor:
        cursor.execute("UPDATE dramatiq.queue SET state = 'consumed' WHERE state = 'queued'")

        assert adopt() == (0, 0, None, None)

    assert adopt() == (0, 0, None, None)


def test_one_worker_at_a_time_adopts(put, announce, message, adopt, connect):
    announce("default")
    put(message())
    with connect().cursor() as cursor:
        cursor.execute("SELECT adopted FROM pipeline.adopt_inbox_v1('dramatiq', '', 10)")
        assert cursor.fetchone() == (1,)
        put(message())

        assert adopt() == (0, 0, None, None)


@pytest.mark.stress
def test_many_workers_adopt_each_row_once(put, announce, message, connect, rows):
    announce("default")
    for _ in range(400):
        put(message())
    is_over = threading.Event()

    def work(connection):
        done = 0
        with connection.cursor() as cursor:
            while not is_over.is_set():
                cursor.execute("SELECT adopted FROM pipeline.adopt_inbox_v1('dramatiq', '', 7)")
                done += cursor.fetchone()[0]
                cursor.execute("SELECT FROM dramatiq.queue LIMIT 1")
                if not cursor.rowcount:
                    is_over.set()
        return done

    with ThreadPoolExecutor(4) as pool:
        adopted = list(pool.map(work, [connect(autocommit=True) for _ in range(4)]))

    assert sum(adopted) == 400
    assert rows("SELECT count(*), count(DISTINCT message_id) FROM pipeline.task") == [(400, 400)]


def test_a_crash_in_the_middle_loses_nothing(put, announce, message, adopt, connect, rows):
    announce("default")
    put(message())
    with connect().cursor() as cursor:
        cursor.execute("SELECT * FROM pipeline.adopt_inbox_v1('dramatiq', '', 10)")
        cursor.connection.rollback()

    assert rows("SELECT count(*) FROM dramatiq.queue") == [(1,)]
    assert adopt() == (1, 0, None, None)


# --- the duty ---------------------------------------------------------------------------------------------------------


def test_without_an_inbox_it_says_so_once_and_looks_rarely(adopter, cursor):
    with captured_logs() as logs:
        adopter.run(cursor)
        adopter.run(cursor)

    assert [(each["event"], each["reason"]) for each in logs] == [("inbox.unused", "there is no such table")]
    assert adopter.interval_seconds == 60


def test_an_inbox_that_appears_is_used(adopter, cursor, rows):
    adopter.run(cursor)
    rows(dramatiq_pg.generate_init_sql())

    with captured_logs() as logs:
        adopter.run(cursor)

    assert [each["event"] for each in logs] == ["inbox.found"]
    assert adopter.interval_seconds == 1


def test_a_table_that_only_has_the_name_is_passed_over(adopter, cursor, rows):
    rows("CREATE SCHEMA dramatiq; CREATE TABLE dramatiq.queue (id int)")

    with captured_logs() as logs:
        adopter.run(cursor)

    assert [each["event"] for each in logs] == ["inbox.unused"]
    assert adopter.interval_seconds == 60


def test_a_schema_and_a_prefix_of_any_name_are_found(rows, announce, message):
    schema, prefix = 'Er"p', "my_"
    rows(dramatiq_pg.generate_init_sql(schema=schema, prefix=prefix))
    announce("default")
    row = json.dumps(message())
    rows("INSERT INTO \"Er\"\"p\".my_queue VALUES (gen_random_uuid(), 'default', 'queued', now(), %s)", row)

    assert rows("SELECT adopted FROM pipeline.adopt_inbox_v1(%s, %s, 10)", schema, prefix) == [(1,)]


def test_our_own_table_is_never_an_inbox(rows):
    assert rows("SELECT * FROM pipeline.adopt_inbox_v1('pipeline', '', 10)") == []


def test_a_lost_connection_is_the_caretakers_affair(adopter, connect, inbox):
    connection = connect(autocommit=True)
    with connection.cursor() as cursor, connect(autocommit=True).cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))

        with pytest.raises(psycopg2.OperationalError):
            adopter.run(cursor)


def test_a_locked_inbox_is_given_up_quickly_and_tried_again(adopter, cursor, connect, inbox):
    adopter.run(cursor)
    with connect().cursor() as other:
        other.execute("LOCK TABLE dramatiq.queue")

        adopter.run(cursor)

    assert adopter.interval_seconds < 60


def test_a_full_inbox_is_emptied_at_once(put, announce, message, adopter, cursor, rows, monkeypatch):
    monkeypatch.setattr("pipeline.maintenance.inbox_adopter._LIMIT", 2)
    monkeypatch.setattr("pipeline.maintenance.inbox_adopter._BATCHES", 2)
    announce("default")
    for _ in range(5):
        put(message())

    adopter.run(cursor)
    assert adopter.interval_seconds == 0
    adopter.run(cursor)

    assert adopter.interval_seconds == 1
    assert rows("SELECT count(*) FROM pipeline.task") == [(5,)]


# --- what dramatiq-pg's workers left ----------------------------------------------------------------------------------


def test_consumed_rows_are_adopted_by_command_only(put, announce, message, adopt, rows):
    announce("default")
    put(message(), state="consumed")

    assert adopt() == (0, 0, None, None)
    assert rows("SELECT adopted FROM pipeline.adopt_consumed_v1('dramatiq', '', 10)") == [(1,)]
    noted = "SELECT action, who = session_user, new_value->>'adopted' FROM pipeline.audit_log"
    assert rows(noted) == [("adopt", True, "1")]


def test_consumed_rows_are_not_adopted_while_dramatiq_pg_is_connected(put, announce, message, producer, rows):
    announce("default")
    put(message(), state="consumed")
    producer.result("00000000-0000-4000-8000-000000000000", block=False)

    with pytest.raises(psycopg2.Error, match="dramatiq-pg is connected") as refused:
        rows("SELECT * FROM pipeline.adopt_consumed_v1('dramatiq', '', 10)")

    assert refused.value.pgcode == "PQ010"


def test_a_consumed_row_whose_lock_is_held_is_left(put, announce, message, connect, rows):
    announce("default")
    held, _ = put(message(), state="consumed"), put(message(), state="consumed")

    class Held:
        queue_name, message_id = "default", held

    with connect(autocommit=True).cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (dramatiq_pg.broker.message_lock(Held),))

        assert rows("SELECT adopted FROM pipeline.adopt_consumed_v1('dramatiq', '', 10)") == [(1,)]
    assert rows("SELECT message_id FROM dramatiq.queue") == [(held,)]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def conclude(rows):
    """Conclude the newest task with this result."""
    call = "SELECT pipeline.seal_v1(1, (SELECT max(id) FROM pipeline.task), 1, 's', 1, 1, 0, NULL, %s)"
    return lambda result: rows(call, '{"answer": ["dramatiq", ""], "ttl": 60000, "result": ' + result + "}")


@pytest.fixture
def answer(put, announce, message, adopt, conclude):
    """Adopt a task and conclude it with this result."""
    announce("default")

    def answer(result):
        put(message())
        adopt()
        conclude(result)

    return answer


def test_an_answer_that_cannot_be_written_is_not_the_tasks_failure(answer, rows):
    answer("1" + "0" * 140_000)  # a number that json can hold and jsonb cannot

    assert rows("SELECT outcome FROM pipeline.attempt") == [("s",)]
    assert rows("SELECT * FROM dramatiq.queue") == []


def test_a_task_succeeds_whose_inbox_is_gone(answer, rows):
    answer("1")
    rows("ALTER TABLE dramatiq.queue RENAME COLUMN result_ttl TO other")

    answer("2")

    assert rows("SELECT outcome FROM pipeline.attempt") == [("s",), ("s",)]


def test_an_answer_leaves_a_message_that_was_sent_again_queued(put, announce, message, adopt, conclude, rows):
    announce("default")
    message_id = put(message())
    adopt()
    put(message(), message_id=message_id)

    conclude("5")

    assert rows("SELECT state, result FROM dramatiq.queue") == [("queued", 5)]


def test_answers_whose_time_is_over_are_purged(answer, rows):
    answer("1")
    answer("2")
    rows("UPDATE dramatiq.queue SET result_ttl = now() - interval '2 days' WHERE result = '1'")

    assert rows("SELECT pipeline.purge_answers_v1('dramatiq', '', 100)") == [(1,)]
    assert rows("SELECT result FROM dramatiq.queue") == [(2,)]
