from typing import Any

import pytest

from pipeline.db.owned import _ruling, _statements
from pipeline.errors import TransactionOwned


class Told:
    """An owner that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def savepoint_set(self, name: str) -> None:
        self.heard.append(("set", name))

    def savepoint_rolled_back(self, name: str) -> None:
        self.heard.append(("back", name))

    def savepoint_released(self, name: str) -> None:
        self.heard.append(("released", name))


def told_of(text: str) -> list[Any]:
    owner = Told()
    for words in _statements(text):
        if (then := _ruling(words, owner)) is not None:
            then()
    return owner.heard


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT",
        "commit;",
        "  \n\tCoMmIt ; ",
        "COMMIT AND CHAIN",
        "END",
        "ROLLBACK",
        "ROLLBACK WORK",
        "ABORT",
        "BEGIN",
        "START TRANSACTION",
        "PREPARE TRANSACTION 'x'",
        "prepare transaction 'x'",
        "COMMIT PREPARED 'x'",
        "/* x */ COMMIT",
        "/* x */ /* y */ COMMIT",
        "/* x /* nested */ y */ COMMIT",
        "/**/COMMIT",
        "-- x\nROLLBACK",
        "-- x\n-- y\n  /* z */ ROLLBACK",
        "COMMIT -- at last",
        "COMMIT/* at last */",
        "SELECT 1; COMMIT",
        "INSERT INTO t VALUES (';'); COMMIT",
        "SELECT $$ ; $$; COMMIT",
        "SELECT $x$ ; $$ ; $x$; COMMIT",
        "SELECT 'it''s'; COMMIT",
        r"SELECT E'\''; COMMIT",
        'SELECT 1 AS "a;b"; COMMIT',
        "; ; COMMIT",
        ";COMMIT",
    ],
)
def test_what_ends_the_transaction_is_refused(text) -> None:
    with pytest.raises(TransactionOwned):
        told_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "-- COMMIT",
        "/* COMMIT; */",
        "SELECT 'COMMIT'",
        "SELECT '; COMMIT'",
        "SELECT 'it''s; COMMIT'",
        r"SELECT E'it\'s; COMMIT'",
        "SELECT $$; COMMIT;$$",
        "SELECT $tag$; COMMIT; $$ COMMIT; $tag$",
        "SELECT 1 -- ; COMMIT",
        "SELECT /* ; COMMIT; */ 1",
        'SELECT 1 AS "; COMMIT"',
        "DO $$ BEGIN PERFORM 1; END $$",
        "PREPARE plan AS SELECT 1",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN NULL; END $$",
        "CALL commit_nothing()",
        "EXPLAIN SELECT 1",
        "COMMENT ON TABLE t IS 'x'",
        "BEGINNING",
        "ENDING",
        "SET LOCAL statement_timeout = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "ABORTED",
        "RESET ALL",
        "INSERT INTO t VALUES ('; COMMIT')",
    ],
)
def test_what_does_not_end_it_runs(text) -> None:
    assert told_of(text) == []


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("SAVEPOINT a", [("set", "a")]),
        ("savepoint A;", [("set", "a")]),
        ('SAVEPOINT "A"', [("set", "A")]),
        ("/* x */ SAVEPOINT /* y */ a -- z", [("set", "a")]),
        ("ROLLBACK TO a", [("back", "a")]),
        ("ROLLBACK TO SAVEPOINT a", [("back", "a")]),
        ("rollback work to savepoint A ;", [("back", "a")]),
        ("ROLLBACK TRANSACTION TO SAVEPOINT a", [("back", "a")]),
        ("RELEASE a", [("released", "a")]),
        ("RELEASE SAVEPOINT a", [("released", "a")]),
        ("SAVEPOINT a; SELECT 1; ROLLBACK TO a; RELEASE a", [("set", "a"), ("back", "a"), ("released", "a")]),
    ],
)
def test_the_owner_is_told_of_savepoints(text, heard) -> None:
    assert told_of(text) == heard


def test_a_long_statement_without_a_semicolon_is_not_searched() -> None:
    text = "SELECT " + "1," * 10**6 + "1"

    assert sum(map(len, next(_statements(text)))) < 500
