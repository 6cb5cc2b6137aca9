import pytest

from pipeline.db.statements import Statements, load
from pipeline.errors import ConfigurationError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "queries").mkdir()
    return tmp_path


def test_blocks_are_found_by_name_and_know_their_schema(root):
    (root / "queries/queue.sql").write_text(
        "-- About queues.\n\n"
        "-- name: pause_queue\n-- Stop at 100 % of them.\n"
        'UPDATE :"schema".queue SET paused = true WHERE name = %(queue)s;\n\n'
        "-- name: schema_name\nSELECT :'schema'\n"
    )

    statements = Statements("erp", root)

    assert dict(statements) == {
        "pause_queue": 'UPDATE "erp".queue SET paused = true WHERE name = %(queue)s',
        "schema_name": "SELECT 'erp'",
    }


def test_a_hostile_schema_name_stays_a_name(root):
    (root / "queries/x.sql").write_text("-- name: x\nSELECT :'schema' FROM :\"schema\".x")

    assert Statements("""a"b'c""", root)["x"] == """SELECT 'a"b''c' FROM "a""b'c".x"""


def test_an_unknown_name_fails_at_once(root):
    with pytest.raises(ConfigurationError, match="no_such"):
        Statements("pipeline", root)["no_such"]


def test_a_name_is_given_once(root):
    (root / "queries/a.sql").write_text("-- name: same\nSELECT 1")
    (root / "queries/b.sql").write_text("-- name: same\nSELECT 2")

    with pytest.raises(ConfigurationError, match=r"queries/b\.sql"):
        Statements("pipeline", root)


def test_statements_cannot_be_changed():
    with pytest.raises(TypeError):
        load("pipeline")["applied_files"] = "SELECT 1"  # type: ignore[index]


def test_our_own_statements_are_read_once():
    statements = load("pipeline")

    assert load("pipeline") is statements
    assert "applied_files" in statements
    assert len(statements) == len(list(statements))
