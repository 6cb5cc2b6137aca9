"""Which batches may be written without a look for earlier tasks, and which as lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.broker.bulk import Bulk, mode_of
from pipeline.context import NewTask

NEW = NewTask("00000000-0000-7000-8000-000000000000", "q", 0, "a", None, '{"args":[]}', is_new=True)


class Cursor:
    """Notes what it is asked, and answers as a statement that returns nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []

    def execute(self, statement, arguments) -> None:
        self.asked.append((statement, arguments))

    def fetchone(self):
        return (None,)


SQL = {"enqueue_alike": "alike", "enqueue_many": "many"}


def written(new, again_after_ms=None):
    cursor = Cursor()
    Bulk(new).write(SQL, cursor, again_after_ms=again_after_ms)
    ((statement, arguments),) = cursor.asked
    return statement, arguments


def test_new_tasks_that_differ_in_their_payload_are_lines() -> None:
    statement, arguments = written([NEW, replace(NEW, message_id="b", payload="{}")])

    assert statement == "alike"
    assert arguments["message_ids"].split(",") == [NEW.message_id, "b"]
    assert arguments["payloads"].split("\n") == [NEW.payload, "{}"]
    assert (arguments["labels"], arguments["parent"]) == (None, None)


def test_so_are_their_labels_and_all_have_one_parent() -> None:
    new = [replace(NEW, parent=7), replace(NEW, parent=7, labels='{"entity":"a:1"}'), replace(NEW, parent=7)]
    statement, arguments = written(new)

    assert statement == "alike"
    assert arguments["labels"].split("\n") == ["", '{"entity":"a:1"}', ""]
    assert arguments["parent"] == 7


@pytest.mark.parametrize(
    "other",
    [
        {"is_new": False},
        {"keys": '{"tenant":"a"}'},
        {"queue": "r"},
        {"priority": 1},
        {"actor": "b"},
        {"delay_ms": 5},
        {"parent": 7},
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_anything_else_is_json(other, is_first) -> None:
    odd = replace(NEW, message_id="b", **other)
    statement, arguments = written([odd, NEW] if is_first else [NEW, odd])

    assert statement == "many"
    assert arguments["mode"] == ("u" if other == {"is_new": False} else "n")


def test_json_on_several_lines_is_not_parted_in_the_middle() -> None:
    assert written([NEW, replace(NEW, payload='{\n"args":[]}')])[0] == "many"


def test_what_may_have_been_written_is_looked_for() -> None:
    statement, arguments = written([NEW], again_after_ms=3.0)

    assert (statement, arguments["mode"], arguments["since_ms"]) == ("many", "r", 3.0)
    assert mode_of([NEW], 3.0) == "r"
