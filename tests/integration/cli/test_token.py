"""``pipeline token``."""

import json
import re
from typing import Any

import pytest

from pipeline.commands.tokens import is_secret
from tests.integration.cli.conftest import Run

AUDIT = "SELECT who || ' ' || source || ' ' || reason || ' ' || coalesce(new_value, old_value)::text FROM pipeline.audit_log ORDER BY audit_id DESC LIMIT 1"


def test_a_token_is_made_and_shown_once(on_database: Run, ask: Any) -> None:
    made = on_database(
        "token", "create", "ci", "--scope", "operate", "--expires", "12h", "--who", "ada", "--reason", "for builds"
    )

    secret, _, told = made.output.splitlines()
    assert made.exit_code == 0
    assert is_secret(secret)
    assert re.fullmatch(
        r"This is the token ci \(operate, until \d{4}-\d\d-\d\d \d\d:\d\d\)\. It is not shown again\.", told
    )
    assert (
        ask("SELECT expires_at - created_at BETWEEN interval '12 h' AND interval '12 h 5 s' FROM pipeline.api_token")
        is True
    )
    assert ask("SELECT count(*) FROM pipeline.api_token WHERE hash = sha256(%s::text::bytea)", (secret,)) == 1
    noted = str(ask(AUDIT))
    assert noted.startswith("ada cli for builds {")
    assert '"token": "ci"' in noted
    listed = on_database("token", "list")
    assert "ci" in listed.output
    assert (
        secret
        not in listed.output + on_database("token", "list", "--json").output + on_database("audit", "--json").output
    )
    assert max(map(len, listed.output.splitlines())) <= 80


def test_a_token_may_only_read_and_lives_for_90_days_unless_one_says_otherwise(on_database: Run, ask: Any) -> None:
    made = json.loads(on_database("token", "create", "x", "--json").output)

    assert (made["name"], made["scope"], is_secret(made["token"])) == ("x", "read", True)
    assert (
        ask("SELECT (expires_at - created_at)::text FROM pipeline.api_token").startswith("90 days")
        or ask("SELECT round(extract(epoch FROM expires_at - created_at) / 86400) FROM pipeline.api_token") == 90
    )


def test_a_token_can_live_for_ever(on_database: Run, ask: Any) -> None:
    assert "until it is revoked" in on_database("token", "create", "x", "--expires", "never").output
    assert ask("SELECT expires_at FROM pipeline.api_token") is None
    (row,) = json.loads(on_database("token", "list", "--json").output)
    assert (row["state"], row["expires_at"]) == ("live", None)


def test_two_live_tokens_have_two_names(on_database: Run) -> None:
    on_database("token", "create", "ci")
    again = on_database("token", "create", "ci")

    assert again.exit_code == 1
    assert again.output == "Error: There is a token ci already: take another name, or revoke that one first\n"


def test_a_token_is_revoked_once_and_its_name_is_free(on_database: Run, ask: Any) -> None:
    on_database("token", "create", "ci")

    assert on_database("token", "revoke", "ci", "--reason", "leaked").output == "The token ci is revoked.\n"
    assert " leaked " in str(ask(AUDIT))
    gone = on_database("token", "revoke", "ci")
    assert (gone.exit_code, gone.output) == (5, "Error: There is no token ci, or it has been revoked\n")
    assert on_database("token", "list").output == "tokens: none\n"
    assert on_database("token", "create", "ci").exit_code == 0
    states = [row["state"] for row in json.loads(on_database("token", "list", "--all", "--json").output)]
    assert states == ["live", "revoked"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "--scope", "root"),
        ("x", "--expires", "soon"),
        ("x", "--expires", "0d"),
        ("",),
        ("with space",),
        ("zu\nspät",),
        ("@x",),
        ("x" * 65,),
        (),
    ],
)
def test_what_makes_no_token_is_wrong_usage(on_database: Run, ask: Any, arguments: tuple[str, ...]) -> None:
    assert on_database("token", "create", *arguments).exit_code == 2
    assert ask("SELECT count(*) FROM pipeline.api_token") == 0
