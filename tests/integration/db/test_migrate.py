import subprocess
import sys
import threading
from contextlib import closing

import psycopg2
import pytest

from pipeline.db import migrate as runner
from pipeline.db.migrate import Phase, State, check, migrate, status
from pipeline.errors import ConfigurationError, MigrationChanged, SchemaOutdated
from tests.fixtures.database import query
from tests.fixtures.wait import eventually


class Source:
    """A folder like ``sql/``, to write files to."""

    def __init__(self, root):
        self.root = root

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def remove(self, name):
        (self.root / name).unlink()


@pytest.fixture
def url(empty_database_url):
    return empty_database_url


@pytest.fixture
def source(tmp_path):
    source = Source(tmp_path)
    source.write("migrations/0001_create_stock.sql", "CREATE TABLE stock (id int PRIMARY KEY, pieces int)")
    source.write(
        "functions/10_count.sql",
        """
        CREATE OR REPLACE FUNCTION count_stock() RETURNS text
        LANGUAGE plpgsql SET search_path = :"schema", pg_temp AS $$
        BEGIN
            RETURN format('%s of %I; 100 %%', (SELECT count(*) FROM stock), :'schema');
        END $$;
        """,
    )
    source.write("views/10_low_stock.sql", "CREATE VIEW low_stock AS SELECT id FROM stock WHERE pieces < 3")
    return source


ALL = ["0001_create_stock", "functions/10_count.sql", "views/10_low_stock.sql"]


# --- the usual way ----------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_everything_once(url, source):
    assert migrate(url, "erp", root=source.root) == ALL
    assert migrate(url, "erp", root=source.root) == []

    assert query(url, "SELECT erp.count_stock()") == "0 of erp; 100 %"
    assert query(url, "SELECT count(*) FROM erp.low_stock") == 0


def test_our_own_schema_is_current_after_a_migration(url):
    migrate(url)

    check(url)
    assert migrate(url) == []


def test_a_schema_of_any_name_works(url, source):
    migrate(url, "we\"ird 'name", root=source.root)

    assert query(url, """SELECT "we""ird 'name".count_stock()""") == """0 of "we""ird 'name"; 100 %"""


def test_two_schemas_live_side_by_side(url, source):
    assert migrate(url, "one", root=source.root) == migrate(url, "two", root=source.root) == ALL


def test_migrations_run_in_the_order_of_their_numbers(url, source):
    source.write("migrations/0003_fill.sql", "INSERT INTO stock SELECT count(*), 1 FROM colour")
    source.write("migrations/0002_create_colour.sql", "CREATE TABLE colour (name text)")

    applied = migrate(url, "erp", root=source.root)

    assert applied[:3] == ["0001_create_stock", "0002_create_colour", "0003_fill"]


def test_status_tells_where_each_migration_stands_and_changes_nothing(url, source):
    before = status(url, "erp", root=source.root)
    assert [line.state for line in before.migrations] == [State.PENDING]
    assert query(url, "SELECT to_regnamespace('erp')") is None

    migrate(url, "erp", root=source.root)
    source.write("migrations/0002_drop_colour.sql", "-- phase: contract\n-- No longer needed.\nSELECT 1")

    after = status(url, "erp", root=source.root)
    assert [line.state for line in after.migrations] == [State.APPLIED, State.PENDING]
    assert after.migrations[0].applied_at.tzinfo is not None
    assert [line.migration.phase for line in after.migrations] == [Phase.EXPAND, Phase.CONTRACT]


# --- functions and views ----------------------------------------------------------------------------------------------


def test_a_changed_function_is_applied_again(url, source):
    migrate(url, "erp", root=source.root)
    source.write(
        "functions/10_count.sql",
        "CREATE OR REPLACE FUNCTION count_stock() RETURNS text LANGUAGE sql AS $$ SELECT 'new' $$",
    )

    assert migrate(url, "erp", root=source.root) == ["functions/10_count.sql"]
    assert query(url, "SELECT erp.count_stock()") == "new"


def test_a_changed_view_is_made_anew_with_those_that_read_it(url, source):
    source.write("views/20_lowest.sql", "CREATE VIEW lowest AS SELECT min(id) AS id FROM low_stock")
    migrate(url, "erp", root=source.root)
    source.write("views/10_low_stock.sql", "CREATE VIEW low_stock AS SELECT pieces, id FROM stock WHERE pieces < 5")

    assert migrate(url, "erp", root=source.root) == ["views/10_low_stock.sql"]
    assert query(url, "SELECT pg_get_viewdef('erp.low_stock')").count("5") == 1
    assert query(url, "SELECT count(*) FROM erp.lowest") == 1


def test_a_migration_may_change_what_a_view_reads(url, source):
    migrate(url, "erp", root=source.root)
    source.write("migrations/0002_widen_id.sql", "ALTER TABLE stock ALTER id TYPE bigint")

    assert migrate(url, "erp", root=source.root) == ["0002_widen_id"]
    assert query(url, "SELECT pg_typeof(id)::text FROM erp.low_stock UNION SELECT 'bigint'") == "bigint"


def test_a_view_whose_file_is_gone_goes_with_the_next_migration(url, source):
    migrate(url, "erp", root=source.root)
    source.remove("views/10_low_stock.sql")
    source.write("migrations/0002_drop_stock.sql", "DROP TABLE stock")

    migrate(url, "erp", root=source.root)

    assert query(url, "SELECT to_regclass('erp.low_stock')") is None


# --- failing ----------------------------------------------------------------------------------------------------------


def test_an_error_undoes_everything_that_was_not_there_before(url, source):
    migrate(url, "erp", root=source.root)
    source.write("migrations/0002_fine.sql", "CREATE TABLE fine ()")
    source.write("views/20_broken.sql", "CREATE VIEW broken AS SELECT no_such_column FROM stock")

    with pytest.raises(psycopg2.errors.UndefinedColumn) as raised:
        migrate(url, "erp", root=source.root)

    assert "sql/views/20_broken.sql" in raised.value.__notes__[0]
    assert query(url, "SELECT to_regclass('erp.fine')") is None
    assert query(url, "SELECT count(*) FROM erp.low_stock") == 0
    assert [line.state for line in status(url, "erp", root=source.root).migrations] == [State.APPLIED, State.PENDING]


def test_an_edited_migration_is_an_error_and_nothing_happens(url, source):
    migrate(url, "erp", root=source.root)
    source.write("migrations/0001_create_stock.sql", "CREATE TABLE stock (id bigint PRIMARY KEY)")
    source.write("migrations/0002_next.sql", "CREATE TABLE next ()")

    with pytest.raises(MigrationChanged, match="0001_create_stock"):
        migrate(url, "erp", root=source.root)

    assert query(url, "SELECT to_regclass('erp.next')") is None
    assert status(url, "erp", root=source.root).of_state(State.CHANGED)


def test_line_ends_do_not_count_as_an_edit(url, source):
    source.write("migrations/0001_create_stock.sql", "CREATE TABLE stock (\n    id int,\n    pieces int\n)")
    migrate(url, "erp", root=source.root)
    path = source.root / "migrations/0001_create_stock.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert migrate(url, "erp", root=source.root) == []


def test_a_migration_does_not_queue_for_a_lock_for_ever(url, source, monkeypatch):
    migrate(url, "erp", root=source.root)
    source.write("migrations/0002_alter.sql", "SET LOCAL lock_timeout = '50ms'; ALTER TABLE stock ADD colour text")

    with closing(psycopg2.connect(url)) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT * FROM erp.stock")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            migrate(url, "erp", root=source.root)

    assert migrate(url, "erp", root=source.root) == ["0002_alter"]


def test_the_lock_timeout_and_the_search_path_hold_for_every_migration(url, source):
    source.write("migrations/0002_note.sql", "CREATE TABLE note AS SELECT current_setting('lock_timeout') AS timeout")
    migrate(url, "erp", root=source.root)

    assert query(url, "SELECT timeout FROM erp.note") == "5s"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("migrations/2_x.sql", "", "must be named like"),
        ("migrations/0002_x.sql", "-- phase: someday\n", "expand or contract"),
        ("migrations/0001_again.sql", "", "same number"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(url, source, name, text, complaint):
    source.write(name, text)

    with pytest.raises(ConfigurationError, match=complaint):
        migrate(url, "erp", root=source.root)


# --- CREATE INDEX CONCURRENTLY ----------------------------------------------------------------------------------------

CONCURRENTLY = """-- phase: expand
-- transaction: none
DROP INDEX CONCURRENTLY IF EXISTS :"schema".stock_pieces
-- next statement
CREATE INDEX CONCURRENTLY stock_pieces ON stock (pieces)
"""


def test_an_index_can_be_made_concurrently_between_transactions(url, source):
    source.write("migrations/0002_index_pieces.sql", CONCURRENTLY)
    source.write("migrations/0003_after.sql", "COMMENT ON INDEX stock_pieces IS 'there'")

    assert migrate(url, "erp", root=source.root)[1:3] == ["0002_index_pieces", "0003_after"]
    assert query(url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'erp.stock_pieces'::regclass")


def test_what_ran_before_a_concurrent_index_stays_when_it_fails(url, source):
    source.write("migrations/0002_index.sql", "-- transaction: none\nCREATE INDEX CONCURRENTLY ON no_such_table (x)")

    with pytest.raises(psycopg2.errors.UndefinedTable):
        migrate(url, "erp", root=source.root)

    states = [line.state for line in status(url, "erp", root=source.root).migrations]
    assert states == [State.APPLIED, State.PENDING]


RUNNER = """
import sys
from pathlib import Path
from pipeline.db.migrate import migrate
print(len(migrate(sys.argv[1], "erp", root=Path(sys.argv[2]))))
"""


def test_four_runners_at_once_apply_everything_once(url, source):
    """With a concurrent index, for which a runner that waited in a statement would make a deadlock."""
    source.write("migrations/0002_index_pieces.sql", CONCURRENTLY)

    command = [sys.executable, "-c", RUNNER, url, str(source.root)]
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [runner.communicate()[0].split()[-1] for runner in runners]

    assert [runner.returncode for runner in runners] == [0] * 4
    assert sorted(counts) == ["0", "0", "0", "4"]


def test_a_runner_that_waits_holds_no_snapshot(url, source):
    """The rule behind the test above: a concurrent index waits for every older snapshot in the database."""
    with closing(psycopg2.connect(url)) as holder, holder.cursor() as cursor:
        holder.autocommit = True
        cursor.execute(runner.load("erp")["try_migration_lock"])
        waiting = threading.Thread(target=migrate, args=(url, "erp"), kwargs={"root": source.root})
        waiting.start()
        eventually(
            lambda: query(
                url,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' "
                "AND application_name = 'pipeline migrate' AND backend_xmin IS NULL AND query LIKE '%try_advisory%'",
            )
        )
        cursor.execute(runner.load("erp")["release_migration_lock"])
        waiting.join()

    assert migrate(url, "erp", root=source.root) == []


# --- old and new releases ---------------------------------------------------------------------------------------------


def test_an_empty_database_is_outdated_and_the_command_is_named(url, source):
    with pytest.raises(SchemaOutdated, match=r"0001_create_stock.*Run: pipeline migrate"):
        check(url, "erp", root=source.root)


def test_a_schema_without_this_codes_function_is_outdated(url, source):
    migrate(url, "erp", root=source.root)
    source.write("functions/10_count.sql", "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")

    with pytest.raises(SchemaOutdated) as raised:
        check(url, "erp", root=source.root)

    assert raised.value.missing == ("functions/10_count.sql",)


def test_a_worker_of_the_last_release_starts_on_the_new_schema(url, source):
    old = (source.root / "functions/10_count.sql").read_text()
    migrate(url, "erp", root=source.root)
    source.write("functions/10_count.sql", old.replace("100", "200"))
    migrate(url, "erp", root=source.root)

    source.write("functions/10_count.sql", old)

    check(url, "erp", root=source.root)


def test_an_old_release_does_not_bring_its_functions_back(url, source):
    old = (source.root / "functions/10_count.sql").read_text()
    source.write("functions/10_count.sql", old.replace("100", "200"))
    source.write("migrations/0002_of_the_new_release.sql", "SELECT 1")
    migrate(url, "erp", root=source.root)

    source.write("functions/10_count.sql", old)
    source.remove("migrations/0002_of_the_new_release.sql")

    assert migrate(url, "erp", root=source.root) == []
    assert query(url, "SELECT erp.count_stock()").endswith("200 %")
    assert status(url, "erp", root=source.root).newer == ("0002_of_the_new_release",)


def test_a_release_that_is_taken_back_takes_its_functions_back(url, source):
    old = (source.root / "functions/10_count.sql").read_text()
    for text in (old, old.replace("100", "200"), old):
        source.write("functions/10_count.sql", text)
        migrate(url, "erp", root=source.root)

    assert query(url, "SELECT erp.count_stock()").endswith("100 %")


def test_an_owner_of_the_schema_needs_no_right_to_make_schemas(url, source):
    query(url, "DROP ROLE IF EXISTS pipeline_owner; CREATE ROLE pipeline_owner LOGIN PASSWORD 'x'; SELECT 1")
    try:
        query(url, "CREATE SCHEMA erp AUTHORIZATION pipeline_owner; SELECT 1")
        host = url.partition("@")[2]

        assert migrate(f"postgresql://pipeline_owner:x@{host}", "erp", root=source.root) == ALL
    finally:
        query(url, "DROP OWNED BY pipeline_owner CASCADE; DROP ROLE pipeline_owner; SELECT 1")
