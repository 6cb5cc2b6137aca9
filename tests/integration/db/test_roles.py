"""Each role can do its work and nothing else (race 26)."""

from __future__ import annotations

from contextlib import contextmanager

import dramatiq
import psycopg2
import pytest
from psycopg2 import errors

from pipeline import PostgresBroker
from pipeline.db.migrate import migrate
from pipeline.db.sources import ROOT, render
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK, global_broker, working
from tests.fixtures.database import query

#: What an attacker would like to run as the owner.
BODY = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'run as %', current_user; END $$"
ENQUEUE = "SELECT pipeline.enqueue('greet', '[\"a secret\"]', queue => 'default')"


@pytest.fixture
def roles(rows):
    """The roles, let into this test's schema."""
    rows("SELECT pipeline.ensure_lane_v1('default', 0)")
    rows(render((ROOT / "roles.sql").read_text(), "pipeline"))


@pytest.fixture
def as_role(connect, roles):
    """Ask the database as one of the roles."""

    @contextmanager
    def become(role):
        connection = connect(autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}")

            def ask(question, *parameters):
                cursor.execute(question, parameters or None)
                return cursor.fetchall() if cursor.description else []

            yield ask

    return become


@pytest.fixture
def broker_as(database_url, roles):
    """A broker whose sessions all have the rights of a role."""

    def make(role):
        separator = "&" if "?" in database_url else "?"
        url = f"{database_url}{separator}options=-c%20role%3D{role}"
        assert query(url, "SELECT current_user") == role
        return PostgresBroker(settings=Settings(database_url=url, **QUICK))

    return make


def test_nothing_of_ours_is_everybodys(rows):
    open_to_all = (
        "SELECT oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a"
        " WHERE pronamespace = 'pipeline'::regnamespace AND a.grantee = 0"
    )

    assert rows(open_to_all) == []


def test_a_function_that_changes_stays_closed_and_a_view_stays_open(database_url, rows, roles):
    rows("UPDATE pipeline.schema_file SET checksum = 'x' WHERE name ~ '10_enqueue|10_task_status'")
    rows("DROP FUNCTION pipeline.enqueue")

    migrate(database_url)

    privilege = "SELECT has_function_privilege(%s, (SELECT oid FROM pg_proc WHERE proname = 'enqueue'), 'EXECUTE')"
    assert rows(privilege, "public") == [(False,)]
    assert rows(privilege, "pipeline_producer") == [(True,)]
    assert rows("SELECT has_column_privilege('pipeline_reader', 'pipeline.task_status', 'state', 'SELECT')") == [
        (True,)
    ]


def test_roles_that_were_not_let_in_get_nothing(rows, roles):
    rows("REVOKE USAGE ON SCHEMA pipeline FROM pipeline_producer")
    rows("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pipeline FROM pipeline_producer")

    rows("SELECT pipeline.grant_roles()")

    cancel = "pipeline.cancel_v1(uuid,text,text,bigint,text)"
    assert rows("SELECT has_function_privilege('pipeline_producer', %s, 'EXECUTE')", cancel) == [(False,)]


def test_a_producer_enqueues_cancels_and_limits_itself(as_role, rows):
    with as_role("pipeline_producer") as ask:
        (task_id,) = ask(ENQUEUE)[0]

        assert ask("SELECT pipeline.cancel_v1(%s, 'me', 'no')", task_id) == [("cancelled",)]
        assert ask("SELECT pipeline.cancel_many_v1(ARRAY[%s::uuid], 'me', 'no', NULL)", task_id) == [("cancelled",)]
        assert ask("SELECT cardinality(pipeline.composition_v1(%s))", task_id) == [(1,)]
        assert ask("SELECT pipeline.add_rate_v1('key', 1, 1000)") == [(True,)]
        assert ask("SELECT * FROM pipeline.result_v1(%s)", task_id) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT payload FROM pipeline.task",
        "SELECT * FROM pipeline.task_status",
        "SELECT * FROM pipeline.ready",
        "DELETE FROM pipeline.ready",
        "SELECT result FROM pipeline.attempt",
        "SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')",
        "SELECT * FROM pipeline.exchange_v1(1, 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, false, '{}',"
        " '{default}', 10, NULL, NULL)",
        "SELECT pipeline.seal_v1(1, 1, 1, 's', 1, 1, 0, NULL, NULL)",
        "SELECT pipeline.rescue_v1(1, 0, 3)",
        "SELECT * FROM pipeline.drain_workers_v1('{1}', NULL, 'me', '')",
        "SELECT pipeline.flush_v1('default', 'me')",
        "SELECT pipeline.cancel_where_v1('default', NULL, NULL, NULL, 'me', '', NULL, true)",
        "SELECT * FROM pipeline.cancel_requests_v1('{1}')",
        "SELECT pipeline.drop_week_v1(1)",
        "SELECT * FROM pipeline.adopt_inbox_v1('dramatiq', '', 10)",
        "CREATE TABLE pipeline.mine (id int)",
    ],
)
def test_a_producer_reads_no_payload_and_claims_nothing(as_role, rows, statement):
    rows(ENQUEUE)
    with as_role("pipeline_producer") as ask, pytest.raises(errors.InsufficientPrivilege):
        ask(statement)


def test_a_producer_can_send_and_get_its_result_through_the_broker(broker_as, broker, roles):
    producer = broker_as("pipeline_producer")
    with global_broker(producer):
        theirs = dramatiq.actor(str, actor_name="greet")
        message = theirs.send("you")
        producer.send_many([theirs.message("a"), theirs.message("b")])
    with global_broker(broker):
        dramatiq.actor(lambda name: "hello " + name, actor_name="greet")
        with working(broker):
            broker.join("default", timeout=20_000)

    assert producer.get_results_backend().get_result(message) == "hello you"


def test_a_worker_works_with_its_role_alone(broker_as, roles, rows):
    worker = broker_as("pipeline_worker")
    with global_broker(worker):
        done = []

        @dramatiq.actor(transactional=True, max_retries=0)
        def greet(name):
            done.append(name)
            return name

        with working(worker):
            message = greet.send("you")
            assert message.get_result(block=True) == "you"
            worker.join("default", timeout=20_000)

    assert done == ["you"]
    assert rows("SELECT state FROM pipeline.worker") == [("s",)]


def test_a_worker_may_do_every_duty(as_role, rows):
    with as_role("pipeline_worker") as ask:
        for statement in (
            "SELECT * FROM pipeline.watch_workers_v1()",
            "SELECT pipeline.end_backends_v1(1)",
            "SELECT * FROM pipeline.missing_partitions_v1(30)",
            "SELECT pipeline.make_partition_v1('task', 100)",
            "SELECT pipeline.carry_tasks_v1(100, 0, 10)",
            "SELECT pipeline.drop_week_v1(100)",
            "SELECT * FROM pipeline.purge_v1(30, 10)",
            "SELECT pipeline.purge_carried_v1(30, 10)",
            "SELECT * FROM pipeline.adopt_inbox_v1('dramatiq', '', 10)",
            "SELECT * FROM pipeline.task_status",
        ):
            ask(statement)
        with pytest.raises(errors.InsufficientPrivilege):
            ask("SELECT payload FROM pipeline.task")


def test_a_reader_sees_what_happens_but_not_with_what(as_role, rows):
    rows(ENQUEUE)
    with as_role("pipeline_reader") as ask:
        assert ask("SELECT state, actor, queue FROM pipeline.task_status") == [("queued", "greet", "default")]
        for view in ("attempt_history", "queue_status", "worker_status"):
            ask(f"SELECT count(*) FROM pipeline.{view}")
        for column in ("args", "kwargs", "result", "error"):
            with pytest.raises(errors.InsufficientPrivilege):
                ask(f"SELECT {column} FROM pipeline.task_status")
        for statement in ("SELECT traceback FROM pipeline.attempt_history", "SELECT * FROM pipeline.task", ENQUEUE):
            with pytest.raises(errors.InsufficientPrivilege):
                ask(statement)


def test_a_reader_sees_that_something_was_logged_and_an_operator_what(as_role, rows):
    rows(ENQUEUE)
    line = "(SELECT json_build_array(json_build_object('t', id, 'r', 1, 'n', 1, 'a', 0, 'l', 30, 'g', 'x', 'm', 'text')) FROM {})"
    with as_role("pipeline_worker") as ask:
        assert ask("SELECT pipeline.write_logs_v1(" + line.format("pipeline.task_status") + ")") == [(1,)]
        with pytest.raises(errors.InsufficientPrivilege):
            ask("SELECT message FROM pipeline.task_log")
    with as_role("pipeline_reader") as ask:
        assert ask("SELECT run, line, level, logger FROM pipeline.task_logs") == [(1, 1, "warning", "x")]
        for statement in ("SELECT message FROM pipeline.task_logs", "SELECT pipeline.write_logs_v1('[]')"):
            with pytest.raises(errors.InsufficientPrivilege):
                ask(statement)
    with as_role("pipeline_producer") as ask:
        for statement in ("SELECT run FROM pipeline.task_logs", "SELECT pipeline.write_logs_v1('[]')"):
            with pytest.raises(errors.InsufficientPrivilege):
                ask(statement)
    with as_role("pipeline_operator") as ask:
        assert ask("SELECT message FROM pipeline.task_logs") == [("text",)]


def test_a_reader_sees_what_is_paused_and_by_whom_and_pauses_nothing(as_role, rows):
    rows("SELECT pipeline.pause_queue_v1('default', 'ada', 'out of paper', NULL)")
    with as_role("pipeline_reader") as ask:
        assert ask("SELECT paused, paused_by, pause_reason, resume_at FROM pipeline.queue_status") == [
            (True, "ada", "out of paper", None)
        ]
        with pytest.raises(errors.InsufficientPrivilege):
            ask("SELECT pipeline.resume_queue_v1('default', 'bob', '')")


def test_a_reader_sees_what_runs_where_and_an_operator_drains(as_role, rows):
    rows(ENQUEUE)
    worker = rows("SELECT pipeline.register_worker_v1('here', 1, 1, '{default}', '{}')")[0][0]
    rows("SELECT pipeline.beat_v1(%s, ARRAY(SELECT id FROM pipeline.task), '{1.5}', '{default}')", worker)
    with as_role("pipeline_reader") as ask:
        shown = "SELECT tasks->0->>'actor', (tasks->0->>'seconds')::float >= 1.5, drain_at FROM pipeline.worker_status"
        assert ask(shown) == [("greet", True, None)]
    with as_role("pipeline_operator") as ask:
        drained = ask("SELECT * FROM pipeline.drain_workers_v1(%s, NULL, 'ada', 'an old disk')", [worker])
        assert drained == [(worker, "draining")]
    rows("SELECT pipeline.end_worker_v1(%s)", worker)


def test_an_operator_sees_everything_and_commands(as_role, rows):
    with as_role("pipeline_operator") as ask:
        ask(ENQUEUE)

        for view in ("task_status", "attempt_history", "queue_status", "worker_status"):
            ask(f"SELECT * FROM pipeline.{view}")
        assert ask("SELECT args FROM pipeline.task_status") == [(["a secret"],)]
        (id,) = ask("SELECT id FROM pipeline.task_status")[0]
        assert ask("SELECT actor FROM pipeline.tasks_v1(ARRAY[%s])", id) == [("greet",)]
        assert ask("SELECT event FROM pipeline.timeline_v1(%s)", id) == [("enqueued",), ("due",)]
        assert ask("SELECT pipeline.flush_v1('default', 'me')") == [(1,)]
        with pytest.raises(errors.InsufficientPrivilege):
            ask("DELETE FROM pipeline.task")


@pytest.mark.parametrize("role", ["pipeline_operator", "pipeline_worker", "pipeline_producer", "pipeline_reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pipeline.audit (action, who) VALUES ('cancel', 'somebody else')",
        "SELECT pipeline.note('cancel', 'somebody else', '', 'sql', NULL, NULL)",
        "UPDATE pipeline.audit SET who = 'somebody else'",
        "DELETE FROM pipeline.audit",
        "TRUNCATE pipeline.audit",
        "ALTER TABLE pipeline.audit DISABLE TRIGGER ALL",
    ],
)
def test_who_acts_is_noted_and_cannot_change_it(as_role, rows, role, statement):
    rows("SELECT pipeline.pause_queue_v1('default', 'ada', 'out of paper', NULL)")
    with as_role(role) as ask:
        for setting in ("off", "on"):  # the purge's own word opens nothing to those who have no right
            ask(f"SET pipeline.purges_audit = {setting}")
            with pytest.raises(errors.InsufficientPrivilege):
                ask(statement)

    assert rows("SELECT action, who FROM pipeline.audit_log") == [("pause", "ada")]


def test_operators_and_readers_read_what_was_done(as_role, rows):
    with as_role("pipeline_operator") as ask:
        ask("SELECT pipeline.pause_queue_v1('default', 'ada', 'out of paper', NULL)")
    for role in ("pipeline_operator", "pipeline_reader"):
        with as_role(role) as ask:
            assert ask("SELECT action, who, reason FROM pipeline.audit_log") == [("pause", "ada", "out of paper")]


def test_what_a_command_changed_is_for_operators_since_it_may_be_arguments(as_role, rows):
    rows("SELECT pipeline.pause_queue_v1('default', 'ada', 'out of paper', NULL)")
    with as_role("pipeline_operator") as ask:
        assert ask("SELECT new_value->>'paused' FROM pipeline.audit_log") == [("true",)]
    with as_role("pipeline_reader") as ask, pytest.raises(errors.InsufficientPrivilege):
        ask("SELECT new_value FROM pipeline.audit_log")


def test_a_reader_sees_when_what_happened_to_a_task_but_no_error_text(as_role, rows):
    rows(ENQUEUE)
    with as_role("pipeline_reader") as ask:
        assert ask("SELECT event FROM pipeline.task_timeline ORDER BY at, event") == [("due",), ("enqueued",)]
        with pytest.raises(errors.InsufficientPrivilege):
            ask("SELECT detail FROM pipeline.task_timeline")


def test_the_web_servers_role_lets_people_in_and_reads_nothing_that_would(as_role, rows):
    token, session, code = (f"sha256('{word}')" for word in ("token", "session", "code"))
    with as_role("pipeline_operator") as ask:
        assert len(ask(f"SELECT * FROM pipeline.create_api_token_v1('ci', 'read', {token}, NULL, 'ada', '')")) == 1
        assert ask(f"SELECT token_name, token_state FROM pipeline.use_api_token_v1({token})") == [("ci", "live")]
        assert ask(f"SELECT pipeline.create_api_login_v1({token}, {code}, 1000)") == [(True,)]
        assert len(ask(f"SELECT * FROM pipeline.redeem_api_login_v1({code}, {session})")) == 1
        assert len(ask(f"SELECT * FROM pipeline.use_api_session_v1({session})")) == 1
        assert len(ask("SELECT pipeline.api_secret_v1()")) == 1
        assert ask("SELECT pipeline.count_rate_v1('login', 1, 0, 10, 1000)") == [(True,)]
        assert [row[1] for row in ask("SELECT * FROM pipeline.list_api_tokens_v1(true)")] == ["ci"]
        assert ask("SELECT pipeline.revoke_api_token_v1('ci', 'ada', '')") == [(True,)]


API_TABLES = ["api_token", "api_session", "api_login", "api_secret"]


@pytest.mark.parametrize("role", ["pipeline_operator", "pipeline_worker", "pipeline_producer", "pipeline_reader"])
def test_nobody_reads_or_writes_what_lets_people_in(as_role, rows, role):
    found = rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pipeline'::regnamespace AND relname ~ '^api_' AND relkind = 'r'"
    )
    assert {name for (name,) in found} == set(API_TABLES)
    with as_role(role) as ask:
        for table in API_TABLES:
            for statement in (f"SELECT * FROM pipeline.{table}", f"DELETE FROM pipeline.{table}"):
                with pytest.raises(errors.InsufficientPrivilege):
                    ask(statement)


@pytest.mark.parametrize("role", ["pipeline_worker", "pipeline_producer", "pipeline_reader"])
def test_only_the_web_servers_role_lets_people_in(as_role, rows, role):
    functions = rows(
        "SELECT oid::regprocedure::text, proname FROM pg_proc WHERE pronamespace = 'pipeline'::regnamespace AND proname ~ 'api_'"
    )
    assert len(functions) >= 14
    for signature, _ in functions:
        assert rows("SELECT has_function_privilege(%s, %s, 'EXECUTE')", role, signature) == [(False,)], signature


def test_an_operator_may_all_that_a_producer_may(rows, roles):
    of_producers = (
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pipeline'::regnamespace"
        " AND has_function_privilege('pipeline_producer', oid, 'EXECUTE')"
        " AND NOT has_function_privilege('pipeline_operator', oid, 'EXECUTE')"
    )

    assert rows(of_producers) == []


@pytest.mark.parametrize("relation", ["lane", "task", "ready", "actor"])
def test_a_callers_temporary_tables_are_not_taken_for_ours(as_role, rows, relation):
    """A producer hides our table behind one of its own, with a trigger that would run as the owner."""
    with as_role("pipeline_producer") as ask:
        ask(f"CREATE TEMP TABLE {relation} (lane_id int, queue text, priority int, shard int, id bigint, name text)")
        ask(f"CREATE FUNCTION pg_temp.mine() RETURNS trigger {BODY}")
        ask(f"CREATE TRIGGER t BEFORE INSERT OR DELETE ON {relation} FOR EACH ROW EXECUTE FUNCTION pg_temp.mine()")
        ask("SET search_path = pg_temp, pipeline, public")

        ask(ENQUEUE)

    assert rows("SELECT count(*) FROM pipeline.ready") == [(1,)]


def test_a_callers_functions_and_operators_are_not_taken_for_ours(as_role, rows):
    rows("CREATE SCHEMA theirs; GRANT ALL ON SCHEMA theirs TO pipeline_producer")
    with as_role("pipeline_producer") as ask:
        ask(f"CREATE FUNCTION theirs.find_task(uuid) RETURNS bigint {BODY}")
        ask(f"CREATE FUNCTION theirs.hashtextextended(text, int) RETURNS bigint {BODY}")
        ask(f"CREATE FUNCTION theirs.clock_timestamp() RETURNS timestamptz {BODY}")
        ask(f"CREATE FUNCTION theirs.same(text, text) RETURNS bool {BODY}")
        ask("CREATE OPERATOR theirs.= (LEFTARG = text, RIGHTARG = text, FUNCTION = theirs.same)")
        ask("SET search_path = theirs, pg_catalog, pipeline")

        ask(ENQUEUE)

    assert rows("SELECT count(*) FROM pipeline.ready") == [(1,)]


def test_making_the_roles_twice_changes_nothing(rows, roles):
    rows(render((ROOT / "roles.sql").read_text(), "pipeline"))


def test_the_schema_may_have_any_name(empty_database_url):
    migrate(empty_database_url, 'Er"p')
    with psycopg2.connect(empty_database_url) as connection, connection.cursor() as cursor:
        cursor.execute(render((ROOT / "roles.sql").read_text(), 'Er"p'))
        cancel = '"Er""p".cancel_v1(uuid,text,text,bigint,text)'
        cursor.execute("SELECT has_function_privilege('pipeline_producer', %s, 'EXECUTE')", (cancel,))
        assert cursor.fetchone() == (True,)
    connection.close()
