"""Tokens in the database: names, lifetimes, and what is noted of their use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.commands.tokens import check_served, create_token, hash_of, is_secret, new_secret, revoke_token
from pipeline.errors import ConfigurationError, TokenExists, TokenUnknown
from pipeline.runtime import ask
from pipeline.store import tokens
from pipeline.store.audit import By
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
BY = By("ada", "so")


@pytest.fixture(autouse=True)
def on_broker(broker: PostgresBroker) -> None:
    """Commands work on this test's database."""


def create(name: str = "ci", *, secret: str = "", lifetime: timedelta | None = timedelta(hours=1)) -> str:
    secret = secret or new_secret()
    ask(create_token, name, secret=secret, scope="read", lifetime=lifetime, by=BY)
    return secret


def expire(rows: Rows) -> None:
    rows("UPDATE pipeline.api_token SET expires_at = clock_timestamp()")


def test_no_two_secrets_are_alike_and_all_are_known_by_their_shape() -> None:
    made = {new_secret() for _ in range(100)}

    assert len(made) == 100
    assert all(map(is_secret, made))
    assert not any(map(is_secret, ["", "tq_", "tq_x", f"{new_secret()}x", f" {new_secret()}", f"{new_secret()}\n"]))


def test_a_token_that_expired_gives_its_name_up(rows: Rows) -> None:
    first = create()
    expire(rows)
    second = create()

    used = [ask(tokens.use, hash_of(secret)) for secret in (first, second)]
    assert [(use.name, use.state) for use in used if use] == [("ci", "expired"), ("ci", "live")]
    assert [(row.name, row.state) for row in ask(tokens.find_all, ended=True)] == [("ci", "live"), ("ci", "expired")]
    assert [row.state for row in ask(tokens.find_all)] == ["live"]


def test_making_a_token_once_more_since_the_answer_was_lost_is_making_it_once(rows: Rows) -> None:
    secret = create()
    create(secret=secret)

    assert rows("SELECT count(*) FROM pipeline.api_token") == rows("SELECT count(*) FROM pipeline.audit_log") == [(1,)]


def test_of_two_who_make_a_token_of_one_name_at_once_one_does(connect: Any, broker: PostgresBroker, rows: Rows) -> None:
    first, raised = connect(), []

    def come_second() -> None:
        try:
            create()
        except TokenExists as error:
            raised.append(error)

    with first.cursor() as cursor:
        create_token(broker.sql, cursor, "ci", secret=new_secret(), scope="read", lifetime=None, by=BY)
    second = threading.Thread(target=come_second)
    second.start()
    eventually(
        lambda: rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )
    first.commit()
    second.join(10)

    assert len(raised) == 1
    assert rows("SELECT count(*) FROM pipeline.api_token") == [(1,)]


def test_when_a_token_was_used_is_noted_once_a_minute(rows: Rows) -> None:
    secret = create()
    use = partial(ask, tokens.use, hash_of(secret))
    last_used = "SELECT last_used_at FROM pipeline.api_token"

    assert rows(last_used) == [(None,)]
    use()
    first = rows(last_used)
    assert first != [(None,)]
    use()
    assert rows(last_used) == first
    rows("UPDATE pipeline.api_token SET last_used_at = last_used_at - interval '61 s'")
    use()
    assert rows(last_used) > first


def test_who_shows_a_token_that_has_ended_leaves_no_trace(rows: Rows) -> None:
    secret = create()
    ask(revoke_token, "ci", by=BY)

    use = ask(tokens.use, hash_of(secret))
    assert use is not None
    assert use.state == "revoked"
    assert rows("SELECT last_used_at FROM pipeline.api_token") == [(None,)]


def test_a_token_that_is_not_live_begins_nothing(rows: Rows) -> None:
    secret = create()
    expire(rows)

    assert ask(tokens.begin_session, token=hash_of(secret), session=hash_of("a")) is None
    assert not ask(tokens.create_login, token=hash_of(secret), code=hash_of("b"), lifetime_ms=1000)
    assert rows("SELECT 1 FROM pipeline.api_session") == []


def test_revoking_a_token_ends_what_was_begun_with_it_and_nothing_else(rows: Rows) -> None:
    for name in ("ci", "other"):
        secret = create(name)
        ask(tokens.begin_session, token=hash_of(secret), session=hash_of(name))
        ask(tokens.create_login, token=hash_of(secret), code=hash_of(name), lifetime_ms=60_000)

    ask(revoke_token, "ci", by=BY)

    assert ask(tokens.use_session, hash_of("ci")) is None
    assert ask(tokens.redeem_login, code=hash_of("ci"), session=hash_of("x")) is None
    assert ask(tokens.use_session, hash_of("other")) is not None
    assert ask(tokens.redeem_login, code=hash_of("other"), session=hash_of("y")) is not None


def test_what_was_done_to_tokens_is_noted() -> None:
    create()
    ask(revoke_token, "ci", by=BY)

    from pipeline.store import audit

    revoked, created = ask(audit.newest)
    assert (created.action, created.who, created.reason, created.source) == ("create_token", "ada", "so", "python")
    assert created.new_value is not None
    assert (created.new_value["token"], created.new_value["scope"]) == ("ci", "read")
    assert (revoked.action, revoked.old_value) == ("revoke_token", {"token": "ci", "scope": "read"})


def test_a_token_that_is_not_there_cannot_be_revoked() -> None:
    with pytest.raises(TokenUnknown, match="There is no token ci"):
        ask(revoke_token, "ci", by=BY)


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1), timedelta(days=10_000)])
def test_a_lifetime_that_is_none_is_refused(lifetime: timedelta) -> None:
    with pytest.raises(ValueError, match="A token lives"):
        create(lifetime=lifetime)


def test_the_network_is_served_once_there_is_a_live_token(rows: Rows) -> None:
    serve = partial(ask, check_served, "0.0.0.0:80")
    with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0:80.*pipeline token create"):
        serve()
    create()
    serve()
    expire(rows)
    with pytest.raises(ConfigurationError):
        serve()


def test_the_key_of_the_web_servers_is_made_once(rows: Rows) -> None:
    first, second = ask(tokens.shared_secret), ask(tokens.shared_secret)

    assert first == second
    assert len(first) == 32
    assert rows("SELECT count(*) FROM pipeline.api_secret") == [(1,)]


def test_two_who_make_it_at_once_get_the_same(connect: Any, broker: PostgresBroker, rows: Rows) -> None:
    first, seen = connect(), []
    with first.cursor() as cursor:
        seen.append(tokens.shared_secret(broker.sql, cursor))
    second = threading.Thread(target=lambda: seen.append(ask(tokens.shared_secret)))
    second.start()
    eventually(
        lambda: rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )
    first.commit()
    second.join(10)

    assert len(seen) == 2
    assert len(set(seen)) == 1
