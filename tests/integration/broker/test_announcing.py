"""What workers announce of their actors when they start."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pipeline
from pipeline import PostgresBroker
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]


def test_workers_announce_what_their_actors_are_for_and_called_with(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(queue_name="payments", masked=("IBAN", "holder"))
    def pay(order: int, iban: str = "DE1") -> None:
        """Pay an order."""

    with working(broker):
        eventually(lambda: rows("SELECT worker_id FROM pipeline.worker"))

    assert rows("SELECT name, queue, description, masked, parameters FROM pipeline.actor") == [
        (
            "pay",
            "payments",
            "Pay an order.",
            ["holder", "iban"],
            [
                {
                    "name": "order",
                    "kind": "positional_or_keyword",
                    "annotation": "int",
                    "is_required": True,
                    "default": None,
                },
                {
                    "name": "iban",
                    "kind": "positional_or_keyword",
                    "annotation": "str",
                    "is_required": False,
                    "default": "'DE1'",
                },
            ],
        )
    ]


def test_a_worker_that_starts_later_writes_nothing_anew(broker: PostgresBroker, rows: Rows) -> None:
    @pipeline.actor(masked=("iban",), max_running=3)
    def pay(iban: str, among: frozenset[str] = frozenset("abcdef"), at: Any = object()) -> None:  # noqa: B008
        """Pay an order."""

    announced = []
    for count in (1, 2):
        with working(broker):
            eventually(lambda count=count: rows("SELECT count(*) FROM pipeline.worker") == [(count,)])
        announced += rows("SELECT ctid, xmin::text, seen_at FROM pipeline.actor")

    assert announced[0] == announced[1]


def test_what_is_announced_otherwise_is_written(rows: Rows) -> None:
    announced = {"name": "pay", "queue": "a", "priority": 0}
    told = {"description": "Pay.", "parameters": [{"name": "iban"}], "masked": ["iban"]}
    for more in (told, {**told, "masked": []}, {**told, "description": "Pay it."}, {**told, "parameters": []}):
        rows("SELECT pipeline.register_actors_v1(%s)", json.dumps([{**announced, **more}]))

        assert rows("SELECT description, parameters, masked FROM pipeline.actor") == [tuple(more.values())]


def test_what_is_not_said_counts_as_none(rows: Rows) -> None:
    actors = json.dumps([{"name": "pay", "queue": "a", "priority": 0}])
    rows("SELECT pipeline.register_actors_v1(%s)", actors)

    assert rows("SELECT description, parameters, masked, limits FROM pipeline.actor") == [(None, None, [], None)]
