"""Bad input and failing statements: a clear error, and nothing lost, doubled or half done."""

from __future__ import annotations

import json
import threading
from typing import Any

import dramatiq
import psycopg2
import pytest
from dramatiq.errors import QueueNotFound

import pipeline
from pipeline import MessageTooLarge, PostgresBroker
from pipeline.errors import ConfigurationError, MessageNotEncodable, SchemaOutdated, TaskIsRunning
from pipeline.store import workers
from tests.fixtures.broker import global_broker, working
from tests.fixtures.logs import captured_logs
from tests.fixtures.wait import eventually

# --- at send ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def echo(broker) -> dramatiq.Actor:
    @dramatiq.actor(max_retries=0)
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    return echo


UNWRITABLE = {
    "an object": object(),
    "a set": {1},
    "bytes": b"x",
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "a NUL": "a\0b",
    "half a surrogate pair": "\ud83d",
    "the other half": ["\ude00"],
    "a NUL in a key": {"\0": 1},
    "a key that is no text": {(1, 2): 3},
    "an endless list": (lambda x: x.append(x) or x)([]),
    "a number of 5,000 digits": 10**5_000,
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
@pytest.mark.parametrize("place", ["argument", "keyword", "option"])
def test_what_cannot_be_stored_is_refused_at_send(echo, rows, value, place) -> None:
    with pytest.raises(MessageNotEncodable, match=r"message for echo"):
        if place == "argument":
            echo.send(value)
        elif place == "keyword":
            echo.send(value=value)
        else:
            echo.send_with_options(pipe_target=value)

    assert rows("SELECT 1 FROM pipeline.task") == []


@pytest.mark.parametrize("option", ["time_limit", "hard_time_limit"])
def test_a_limit_that_is_no_time_is_refused_at_send_and_at_the_actor(broker, echo, rows, option) -> None:
    with pytest.raises(MessageNotEncodable, match=f"message for echo: the {option} -1 is no number of milliseconds"):
        echo.send_with_options(**{option: -1})
    assert rows("SELECT 1 FROM pipeline.task") == []

    with pytest.raises(ConfigurationError, match=f"actor hasty: the {option} 'soon' is no number of milliseconds"):
        dramatiq.actor(lambda: None, actor_name="hasty", **{option: "soon"})
    assert "hasty" not in broker.get_declared_actors()


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "\\u0000",
        "\\\\u0000",
        "\\ud800",
        "😀",
        '"',
        {"NaN": "\\u0000"},
        "\x01\x1f\x7f",
        "x" * 1_000_000,
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_only_looks_dangerous_is_carried_unharmed(echo, worker, value) -> None:
    assert echo.send(value).get_result(block=True) == [[value], {}]


def test_a_message_at_the_limit_is_sent_and_one_byte_more_is_refused(broker, echo, rows) -> None:
    limit = broker.settings.message_limit_bytes
    bare = len(
        json.dumps(
            {"args": [""], "kwargs": {}, "options": {}, "message_timestamp": 1234567890123}, separators=(",", ":")
        )
    )

    echo.send("x" * (limit - bare))
    with pytest.raises(MessageTooLarge, match=f"{limit + 1:,} bytes.*limit.*{limit:,}") as caught:
        echo.send("x" * (limit - bare + 1))

    assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


def test_the_limit_counts_bytes_and_not_characters(echo) -> None:
    with pytest.raises(MessageTooLarge):
        echo.send("ä" * 600_000)


@pytest.mark.parametrize("priority", [1.5, "1", None, True, 32_768, -32_769])
def test_a_bad_priority_is_refused_at_send(echo, rows, priority) -> None:
    with pytest.raises(MessageNotEncodable, match="priority"):
        echo.send_with_options(priority=priority)
    assert rows("SELECT 1 FROM pipeline.task") == []


@pytest.mark.parametrize("priority", [32_767, -32_768])
def test_any_priority_a_smallint_holds_is_taken(echo, rows, priority) -> None:
    echo.send_with_options(priority=priority)

    assert rows("SELECT priority FROM pipeline.task_status") == [(priority,)]


@pytest.mark.parametrize("message_id", ["", "42", "not-a-uuid", None, 7])
def test_a_message_id_that_is_no_uuid_is_refused_at_send(broker, echo, rows, message_id) -> None:
    with pytest.raises(MessageNotEncodable, match="UUID"):
        broker.enqueue(echo.message().copy(message_id=message_id))
    assert rows("SELECT 1 FROM pipeline.task") == []


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), 10**18, "soon"])
def test_a_delay_that_is_none_is_refused_at_send(echo, rows, delay) -> None:
    with pytest.raises((MessageNotEncodable, TypeError)):
        echo.send_with_options(delay=delay)
    assert rows("SELECT 1 FROM pipeline.task") == []


def test_a_delay_in_the_past_is_now(echo, worker) -> None:
    assert echo.send_with_options(args=(1,), delay=-60_000).get_result(block=True) == [[1], {}]


def test_a_queue_nobody_declared_is_refused_by_send_many_too(broker, echo, rows) -> None:
    with pytest.raises(QueueNotFound):
        broker.send_many([echo.message(), echo.message().copy(queue_name="nowhere")])
    assert rows("SELECT 1 FROM pipeline.task") == []


@pytest.mark.parametrize("name", ["über", "a b", "1st", "", 'a"b', "a;b"])
def test_a_queue_name_that_cannot_be_one_is_refused_at_declaration(broker, name) -> None:
    with pytest.raises(ValueError, match="[Qq]ueue"):
        dramatiq.actor(lambda: None, actor_name="odd", queue_name=name)


def test_an_actor_name_with_any_text_in_it_works(broker, worker) -> None:
    one = dramatiq.actor(lambda: "yes", actor_name='module:name "quoted" ✓ \\ %s')

    assert one.send().get_result(block=True) == "yes"


def test_sending_the_message_of_a_running_task_from_outside_says_that_it_runs(broker, worker) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow() -> None:
        has_begun.set()
        may_end.wait(10)

    message = slow.send()
    assert has_begun.wait(5)
    with pytest.raises(TaskIsRunning):
        broker.enqueue(message)
    may_end.set()
    message.get_result(block=True)


# --- at a worker ------------------------------------------------------------------------------------------------------


def test_a_task_whose_actor_nobody_knows_fails_with_that_reason_and_does_not_loop(broker, worker, echo, rows) -> None:
    broker.enqueue(echo.message().copy(actor_name="nobody"))

    eventually(lambda: rows("SELECT state FROM pipeline.task_status") == [("failed",)])
    assert rows("SELECT run, reason, error_type FROM pipeline.attempt_history") == [(1, "refused", "ActorNotFound")]
    assert echo.send().get_result(block=True) == [[], {}]


BROKEN_PAYLOADS = {
    "an array": "[1, 2]",
    "a string": '"x"',
    "null": "null",
    "arguments that are a number": '{"args": 5}',
    "arguments that are an object": '{"args": {"a": 1}}',
    "arguments that are a string": '{"args": "abc"}',
    "keywords that are a list": '{"args": [], "kwargs": [1]}',
    "options that are a list": '{"args": [], "kwargs": {}, "options": [1]}',
    "options that are a string": '{"args": [], "kwargs": {}, "options": "x"}',
    "a time that is a string": '{"args": [], "kwargs": {}, "options": {}, "message_timestamp": "x"}',
    "a number too large for Python": '{"args": [1%s]}' % ("0" * 5_000),
}


@pytest.mark.parametrize("payload", BROKEN_PAYLOADS.values(), ids=BROKEN_PAYLOADS)
def test_a_payload_that_cannot_be_read_fails_once_with_a_reason(broker, echo, rows, payload) -> None:
    broken = echo.send()
    rows("UPDATE pipeline.task SET payload = %s WHERE message_id = %s", payload, broken.message_id)
    with working(broker, threads=1) as worker:
        eventually(lambda: rows("SELECT state FROM pipeline.task_status") == [("failed",)])
        assert echo.send(1).get_result(block=True) == [[1], {}]
        assert all(thread.is_alive() for thread in worker.workers)

    assert rows("SELECT run, outcome, reason FROM pipeline.attempt_history WHERE task_id = %s", broken.message_id) == [
        (1, "failed", "refused")
    ]


def test_a_task_whose_payload_is_gone_fails_with_a_reason(broker, echo, rows) -> None:
    gone = echo.send()
    [(task_id,)] = rows("DELETE FROM pipeline.task WHERE message_id = %s RETURNING id", gone.message_id)
    with working(broker):
        eventually(lambda: rows("SELECT 1 FROM pipeline.attempt WHERE task_id = %s", task_id))

    assert rows("SELECT outcome, error->>'reason' FROM pipeline.attempt WHERE task_id = %s", task_id) == [
        ("f", "refused")
    ]


ODD_OPTIONS = {
    "throws": '"ValueError"',
    "max_retries": '"x"',
    "time_limit": '"x"',
    "max_age": '"x"',
    "retries": '"x"',
    "on_failure": "5",
    "on_retry_exhausted": "[]",
    "pipe_target": '"x"',
    "min_backoff": '"x"',
    "group_completion_uuid": '"x"',
}


@pytest.mark.parametrize("name", ODD_OPTIONS)
def test_an_option_of_a_wrong_kind_ends_its_task_and_not_the_thread(broker, echo, rows, name) -> None:
    """From SQL anybody may write any options."""

    @dramatiq.actor(max_retries=0)
    def fail() -> None:
        raise ValueError

    with working(broker, threads=1) as worker:
        eventually(lambda: rows("SELECT count(*) FROM pipeline.actor") == [(2,)])
        rows(f"SELECT pipeline.enqueue('fail', options => '{{\"{name}\": {ODD_OPTIONS[name]}}}')")
        rows(f"SELECT pipeline.enqueue('echo', options => '{{\"{name}\": {ODD_OPTIONS[name]}}}')")
        eventually(
            lambda: rows("SELECT count(*) FROM pipeline.task_status WHERE state IN ('failed', 'succeeded')") == [(2,)]
        )
        assert all(thread.is_alive() for thread in worker.workers)
        assert not broker.hub.needs_recycling


def test_arguments_that_do_not_fit_the_actor_fail_like_any_error(broker, worker, rows) -> None:
    @dramatiq.actor(max_retries=0)
    def one(x: int) -> None: ...

    one.send(1, 2, 3)

    eventually(
        lambda: (
            rows("SELECT state, error_type FROM pipeline.task_status JOIN pipeline.attempt_history USING (task_id)")
            == [("failed", "TypeError")]
        )
    )


def test_a_bad_outcome_does_not_hold_up_the_others_of_its_batch(broker, rows) -> None:
    """**R** PostgreSQL refuses one result of many; that task fails with PostgreSQL's reason, the others succeed."""
    rows(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.result::text = '13' THEN RAISE EXCEPTION 'unlucky' USING ERRCODE = '22023'; END IF;
            RETURN NEW;
        END $$
        """
    )
    rows("CREATE TRIGGER refuse BEFORE INSERT ON pipeline.attempt FOR EACH ROW EXECUTE FUNCTION refuse()")

    @dramatiq.actor
    def number(n: int) -> int:
        return n

    broker.send_many([number.message(n % 50) for n in range(500)])
    with working(broker, threads=8):
        broker.join("default", timeout=20_000)

    assert rows(
        "SELECT outcome, reason, count(*) FROM pipeline.attempt_history"
        " WHERE outcome <> 'interrupted' GROUP BY 1, 2 ORDER BY 1"
    ) == [("failed", "refused", 10), ("succeeded", None, 490)]


# --- our own statements fail ------------------------------------------------------------------------------------------


def fail_once(rows, table: str, when: str, code: str, *, times: int = 1) -> None:
    """Let the first statements on a table fail as a full disk or a timeout would. A sequence survives the rollback."""
    rows("CREATE SEQUENCE failures")
    rows(
        f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('public.failures') <= {times} THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END IF;
            RETURN coalesce(NEW, OLD);
        END $$
        """
    )
    rows(f"CREATE TRIGGER fail BEFORE {when} ON pipeline.{table} FOR EACH ROW EXECUTE FUNCTION fail()")


TRANSIENT = {
    "53100": "disk full",
    "57014": "statement timeout",
    "40001": "serialization",
    "40P01": "deadlock",
    "55P03": "lock timeout",
    "57P01": "shutdown",
    "25006": "standby",
}


@pytest.mark.parametrize("code", TRANSIENT, ids=TRANSIENT.get)
def test_a_send_that_fails_for_a_moment_is_repeated_and_done_once(echo, rows, code) -> None:
    echo.send("lane")
    fail_once(rows, "ready", "INSERT", code, times=2)

    echo.send("once")

    assert rows("SELECT last_value FROM failures") == [(3,)]
    assert rows("SELECT args->>0 FROM pipeline.task_status ORDER BY id") == [("lane",), ("once",)]
    assert rows("SELECT count(*) FROM pipeline.ready") == [(2,)]


@pytest.mark.parametrize("code", TRANSIENT, ids=TRANSIENT.get)
@pytest.mark.parametrize(
    ("table", "when"), [("attempt", "INSERT"), ("claim", "INSERT"), ("claim", "DELETE"), ("worker", "UPDATE")]
)
def test_a_workers_statement_that_fails_for_a_moment_is_repeated_and_done_once(
    broker, echo, rows, table, when, code
) -> None:
    fail_once(rows, table, when, code, times=2)
    message = echo.send(1)
    with working(broker, threads=2):
        assert message.get_result(block=True, timeout=20_000) == [[1], {}]
        eventually(lambda: rows("SELECT last_value FROM failures")[0][0] >= 3, within=10)
        eventually(lambda: rows("SELECT 1 FROM pipeline.claim") == [], within=10)

    assert rows("SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'") == [(1,)]
    assert rows("SELECT state FROM pipeline.task_status") == [("succeeded",)]


def test_a_disk_that_stays_full_is_a_connection_error_at_send(echo, rows) -> None:
    echo.send("lane")
    fail_once(rows, "ready", "INSERT", "53100", times=10_000)

    with pytest.raises(dramatiq.errors.ConnectionError, match="injected"):
        echo.send("never")
    assert rows("SELECT count(*) FROM pipeline.task") == [(1,)]


def test_an_error_that_will_not_pass_is_told_at_once(echo, rows) -> None:
    echo.send("lane")
    fail_once(rows, "ready", "INSERT", "42501", times=10_000)

    with pytest.raises(psycopg2.Error, match="injected"):
        echo.send("never")
    assert rows("SELECT last_value FROM failures") == [(1,)]


def test_work_goes_on_after_a_time_in_which_every_statement_timed_out(broker, echo, rows, database_url) -> None:
    name = rows("SELECT current_database()")[0][0]
    others = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    with working(broker, threads=2):
        echo.send(0).get_result(block=True)
        messages = [echo.send_with_options(args=(n,), delay=300) for n in range(20)]
        rows(f"ALTER DATABASE {name} SET statement_timeout = '1ms'")
        rows("SELECT set_config('statement_timeout', '0', false)")
        rows(others)
        with captured_logs() as logs:
            eventually(lambda: any("statement timeout" in str(entry.get("error")) for entry in logs), within=10)
        rows(f"ALTER DATABASE {name} RESET statement_timeout")
        rows(others)

        assert [message.get_result(block=True, timeout=20_000) for message in messages] == [
            [[n], {}] for n in range(20)
        ]

    assert rows("SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'") == [(21,)]


def test_a_worker_whose_statement_keeps_failing_tries_less_and_less_often(broker, echo, rows) -> None:
    fail_once(rows, "claim", "INSERT", "42P01", times=10_000)
    echo.send(1)
    with working(broker, threads=1):
        eventually(lambda: rows("SELECT 1 FROM pipeline.worker WHERE clock_timestamp() > started_at + interval '3 s'"))
        [(tries,)] = rows("SELECT last_value FROM failures")
        rows("DROP TRIGGER fail ON pipeline.claim")
        broker.join("default", timeout=10_000)

    assert 3 <= tries < 12


def test_claims_whose_reply_never_came_are_given_back_although_the_first_try_to_resume_fails(
    proxy, proxied_broker, rows, connect
) -> None:
    """**R** The new connection must not be used before its session has begun."""

    @dramatiq.actor
    def noop() -> None: ...

    rows(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$"
    )
    noop.send()
    holder = connect()
    with holder.cursor() as cursor, working(proxied_broker, threads=1):
        noop.send().get_result(block=True)
        eventually(lambda: rows("SELECT 1 FROM pipeline.claim") == [])
        cursor.execute("SELECT pg_advisory_xact_lock(42)")
        rows("CREATE TRIGGER hold BEFORE INSERT ON pipeline.claim FOR EACH ROW EXECUTE FUNCTION hold()")
        message = noop.send()
        eventually(lambda: rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        fail_once(rows, "worker", "UPDATE OF session", "53100")
        proxy.cut()
        holder.rollback()  # the claim is committed, and nobody hears of it
        eventually(lambda: rows("SELECT 1 FROM pipeline.claim"))
        proxy.restore()

        assert message.get_result(block=True, timeout=15_000) is None
    assert rows("SELECT last_value >= 2 FROM failures") == [(True,)]


def test_outcomes_that_come_while_the_hub_stumbles_are_kept(broker, rows, monkeypatch) -> None:
    """Whatever goes wrong in it: here a programming error in a heartbeat."""
    has_stumbled, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow() -> int:
        may_end.wait(10)
        return 7

    with working(broker, threads=1):
        message = slow.send()
        eventually(lambda: broker.interrupter.running())
        beat = broker.hub._beat

        def stumble(now: float) -> None:
            if not has_stumbled.is_set():
                has_stumbled.set()
                raise ZeroDivisionError
            beat(now)

        monkeypatch.setattr(broker.hub, "_beat", stumble)
        assert has_stumbled.wait(5)
        may_end.set()
        assert message.get_result(block=True, timeout=5_000) == 7


def test_tasks_of_a_lane_that_cannot_be_read_at_first_are_given_back_and_run(broker, rows, monkeypatch) -> None:
    """The claim was made, and then the connection broke: nobody has heard of these tasks."""
    read, failures = workers.lanes, [psycopg2.OperationalError("injected"), psycopg2.OperationalError("injected")]

    def fail_at_first(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(*arguments)

    @dramatiq.actor
    def noop() -> None: ...

    with working(broker, threads=2):
        noop.send().get_result(block=True)
        monkeypatch.setattr("pipeline.store.workers.lanes", fail_at_first)
        messages = [noop.send_with_options(priority=3) for _ in range(2)]
        for message in messages:
            assert message.get_result(block=True, timeout=5_000) is None

    assert failures == []


# --- the schema -------------------------------------------------------------------------------------------------------


def test_a_send_to_a_database_that_was_never_migrated_names_the_command(empty_database_url) -> None:
    with global_broker(PostgresBroker(url=empty_database_url)):

        @dramatiq.actor
        def noop() -> None: ...

        with pytest.raises(SchemaOutdated, match="pipeline migrate"):
            noop.send()


def test_a_joined_send_to_such_a_database_names_the_command_and_leaves_the_transaction_alone(
    empty_database_url,
) -> None:
    connection = psycopg2.connect(empty_database_url)
    with global_broker(PostgresBroker(url=empty_database_url)), connection.cursor() as cursor:

        @dramatiq.actor
        def noop() -> None: ...

        cursor.execute("SELECT 1")
        with pytest.raises(SchemaOutdated, match="pipeline migrate"), pipeline.enlist(connection):
            noop.send()
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    connection.close()


def test_a_worker_on_an_older_schema_claims_nothing_and_names_the_command(broker, echo, rows) -> None:
    echo.send()
    rows("CREATE TABLE kept AS SELECT * FROM pipeline.schema_migration")
    rows("DELETE FROM pipeline.schema_migration")
    with captured_logs() as logs, working(broker):
        eventually(lambda: any("pipeline migrate" in str(entry.get("error")) for entry in logs))
        assert rows("SELECT 1 FROM pipeline.worker") == []
        assert rows("SELECT state FROM pipeline.task_status") == [("queued",)]

        rows("INSERT INTO pipeline.schema_migration SELECT * FROM kept")
        eventually(lambda: rows("SELECT state FROM pipeline.task_status") == [("succeeded",)], within=10)
