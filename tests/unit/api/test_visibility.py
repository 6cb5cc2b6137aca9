"""What somebody gets to see of a task."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from api import visibility
from api.announced import Known
from api.visibility import PAYLOADS, Sight
from tests.architecture.tree import sql

#: What workers have announced of ``pay(order, account, *more)``, which masks some fields itself.
PAY = Known(frozenset({"account", "holder"}), ("order", "account"), "more")
ALL = Sight(payloads=True, masked=frozenset({"password", "iban"}))
READER = Sight(payloads=False, masked=frozenset({"password"}))
TOLD = replace(ALL, announced={"pay": PAY})


@dataclass(frozen=True, eq=False)
class Loaded:
    """An actor that this process has loaded."""

    actor_name: str
    fn: Any
    options: dict[str, Any]


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An actor that this process has loaded."""

    def log_in(name: str, password: str, account: Any = None) -> None: ...

    known = Loaded("log_in", log_in, {"masked": ("Device",)})
    monkeypatch.setattr(visibility, "get_broker", lambda: SimpleNamespace(actors={"log_in": known}))
    return known


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


def test_of_an_actor_that_nobody_knows_all_arguments_by_position_are_masked() -> None:
    """There is no telling which of them is the password. What has a name is masked by that."""
    task = {"args": ["ada", {"to": "x"}], "kwargs": {"to": "x", "password": "y"}, "result": {"iban": "DE1", "at": 1}}

    assert ALL.of(task, actor="nobody") == {
        "args": ["***", "***"],
        "kwargs": {"to": "x", "password": "***"},
        "result": {"iban": "***", "at": 1},
    }
    assert Sight(payloads=True).of(task, actor="nobody") == task


def test_so_are_those_for_which_the_actor_has_no_parameter(log_in: Any) -> None:
    shown = ALL.of({"args": ["ada", "geheim", 7, "more"]}, actor=log_in.actor_name)

    assert shown == {"args": ["ada", "***", 7, "***"]}


def test_an_actor_masks_fields_in_its_own_tasks_only(log_in: Any) -> None:
    fields = {"kwargs": {"device": "d", "account": "a"}, "result": [{"HOLDER": "h", "iban": "DE1"}]}

    assert TOLD.of(fields, actor="pay") == {
        "kwargs": {"device": "d", "account": "***"},
        "result": [{"HOLDER": "***", "iban": "***"}],
    }
    assert TOLD.of(fields, actor="log_in") == {
        "kwargs": {"device": "***", "account": "a"},
        "result": [{"HOLDER": "h", "iban": "***"}],
    }
    assert TOLD.of(fields, actor="nobody") == {**fields, "result": [{"HOLDER": "h", "iban": "***"}]}


def test_arguments_by_position_are_masked_by_what_workers_have_announced() -> None:
    args = [{"order": 1, "holder": "h"}, "DE1", "and", {"password": "p"}]

    assert TOLD.of({"args": args}, actor="pay") == {
        "args": [{"order": 1, "holder": "***"}, "***", "and", {"password": "***"}]
    }


def test_all_further_arguments_are_masked_with_the_parameter_that_takes_them() -> None:
    masks_more = replace(PAY, masked=frozenset({"more"}))
    told = replace(ALL, announced={"pay": masks_more})

    assert told.of({"args": [1, "DE1", "and", "more"]}, actor="pay") == {"args": [1, "DE1", "***", "***"]}


def test_where_workers_run_another_version_both_count(log_in: Any) -> None:
    newer = Known(frozenset({"pin"}), ("pin", "name", "password"))
    told = replace(ALL, announced={"log_in": newer})

    assert told.of({"args": ["ada", "geheim"]}, actor="log_in") == {"args": ["***", "***"]}
    assert told.of({"kwargs": {"pin": 1, "device": 2}}, actor="log_in") == {"kwargs": {"pin": "***", "device": "***"}}


def test_an_actor_whose_parameters_workers_cannot_tell_is_known_by_what_is_loaded(log_in: Any) -> None:
    told = replace(ALL, announced={"log_in": Known()})

    assert told.of({"args": ["ada", "geheim"]}, actor="log_in") == {"args": ["ada", "***"]}


def test_a_message_within_is_masked_as_one_to_its_own_actor() -> None:
    """What a chain goes on with stands among the options of its first message."""
    then = {"actor_name": "pay", "args": [1, "DE1"], "kwargs": {"holder": "h"}, "options": {}}
    fields = {"options": {"pipe_target": then, "holder": "h"}}

    assert TOLD.of(fields, actor="nobody") == {
        "options": {"pipe_target": {**then, "args": [1, "***"], "kwargs": {"holder": "***"}}, "holder": "h"}
    }


def test_a_payload_is_masked_as_what_it_is_made_of() -> None:
    payload = {"args": [1, "DE1"], "kwargs": {"holder": "h"}, "options": {}, "message_timestamp": 7}

    assert TOLD.of({"payload": payload}, actor="pay") == {
        "payload": {**payload, "args": [1, "***"], "kwargs": {"holder": "***"}}
    }


def test_what_has_such_a_name_elsewhere_is_not_masked() -> None:
    """``password`` as an actor's or a queue's name, or a state."""
    task = {"actor": "password", "queue": "iban", "tags": ["password"], "progress": 50}

    assert ALL.of(task) == task


@pytest.mark.parametrize("value", [None, "password", 1, 1.5, True, [], {}, ["password"], {"a": None}])
def test_values_without_such_fields_stay_as_they_are(value: object) -> None:
    assert ALL.of({"result": value}) == {"result": value}


def test_what_was_given_is_not_changed() -> None:
    value = {"password": "x"}
    ALL.of({"result": value})

    assert value == {"password": "x"}
