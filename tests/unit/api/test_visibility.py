"""What somebody gets to see of a task."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from api import visibility
from api.visibility import PAYLOADS, Sight, mask
from tests.architecture.tree import sql

ALL = Sight(payloads=True, masked=frozenset({"password", "iban"}))
READER = Sight(payloads=False, masked=frozenset({"password"}))


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An actor that this process knows."""

    def log_in(name: str, password: str) -> None: ...

    known = SimpleNamespace(actor_name="log_in", fn=log_in)
    monkeypatch.setattr(visibility, "get_broker", lambda: SimpleNamespace(actors={"log_in": known}))
    yield known
    visibility._parameters.cache_clear()


def test_what_is_hidden_is_what_the_database_hides_from_its_readers() -> None:
    (grants,) = (source for source in sql("sql/functions") if source.name.endswith("99_grant.sql"))
    (columns,) = re.findall(r"attname NOT IN \(([^)]+)\)", grants.text)

    assert set(re.findall(r"'(\w+)'", columns)) == PAYLOADS


def test_a_reader_sees_what_happens_and_not_with_what() -> None:
    task = {"task_id": "x", "state": "failed", "attempt": 2, "entity": "order:1", "error_type": "ValueError"}
    payloads = dict.fromkeys(PAYLOADS, "a secret")

    assert READER.of({**task, **payloads}) == {**task, **dict.fromkeys(PAYLOADS)}
    assert ALL.of({**task, **payloads}) == {**task, **payloads}


@pytest.mark.parametrize("field", ["args", "kwargs", "options", "payload", "result"])
def test_fields_are_masked_however_deep_they_stand(field: str) -> None:
    value = {"to": "a", "Password": "x", "accounts": [{"iban": "DE1", "bank": {"IBAN": ["DE2"]}}]}

    assert ALL.of({field: value}) == {
        field: {"to": "a", "Password": "***", "accounts": [{"iban": "***", "bank": {"IBAN": "***"}}]}
    }


def test_arguments_by_position_are_masked_by_the_names_of_their_parameters(log_in: Any) -> None:
    shown = ALL.of({"args": ["ada", "geheim", {"iban": "DE1"}]}, actor=log_in.actor_name)

    assert shown == {"args": ["ada", "***", {"iban": "***"}]}


def test_so_are_those_of_a_schedule_in_what_a_command_has_changed(log_in: Any) -> None:
    was = {"actor": log_in.actor_name, "args": ["ada", "geheim"], "kwargs": {"iban": "DE1"}, "queue": "mail"}
    seen = {**was, "args": ["ada", "***"], "kwargs": {"iban": "***"}}

    assert ALL.of({"old_value": was, "new_value": {"paused": True}}) == {
        "old_value": seen,
        "new_value": {"paused": True},
    }


def test_of_an_actor_that_is_not_known_only_named_fields_can_be_masked() -> None:
    assert ALL.of({"args": ["ada", "x", {"password": "y"}]}) == {"args": ["ada", "x", {"password": "***"}]}


def test_what_has_such_a_name_elsewhere_is_not_masked() -> None:
    """``password`` as an actor's or a queue's name, or a state."""
    task = {"actor": "password", "queue": "iban", "tags": ["password"], "progress": 50}

    assert ALL.of(task) == task


@pytest.mark.parametrize("value", [None, "password", 1, 1.5, True, [], {}, ["password"], {"a": None}])
def test_values_without_such_fields_stay_as_they_are(value: object) -> None:
    assert mask(value, {"password"}) == value


def test_what_was_given_is_not_changed() -> None:
    value = {"password": "x"}
    mask(value, {"password"})

    assert value == {"password": "x"}
