"""What workers have announced of actors, as a web process remembers it."""

from __future__ import annotations

import pytest

from api.announced import Announced, Known
from pipeline.store.actors import ActorMasks

POSITIONAL = "positional_or_keyword"


class Table:
    """What workers have announced, how often that was read, and what time it is."""

    def __init__(self) -> None:
        self.rows = [ActorMasks("pay", ["order", "IBAN"], [POSITIONAL, POSITIONAL], ["iban"])]
        self.reads = 0
        self.now = 0.0

    def fetch(self) -> list[ActorMasks]:
        self.reads += 1
        return list(self.rows)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def announced(table: Table) -> Announced:
    return Announced(table.fetch, seconds=5, clock=table.clock)


def test_it_is_told_by_the_names_of_actors(announced: Announced) -> None:
    assert announced.actors() == {"pay": Known(frozenset({"iban"}), ("order", "iban"))}


def test_it_is_read_once_in_a_few_seconds(announced: Announced, table: Table) -> None:
    announced.actors()
    table.now = 4.9
    announced.actors()

    assert table.reads == 1


def test_what_is_new_is_known_after_that(announced: Announced, table: Table) -> None:
    announced.actors()
    table.rows.append(ActorMasks("refund", None, None, []))
    table.now = 5

    assert announced.actors()["refund"] == Known()
    assert table.reads == 2


def test_if_it_cannot_be_read_nothing_older_is_taken_for_it(announced: Announced, table: Table) -> None:
    announced.actors()
    table.now = 5
    table.rows = None  # type: ignore[assignment]

    with pytest.raises(TypeError):
        announced.actors()


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (None, [None, None, None]),
        ([], [None, None, None]),
        ([("A", "positional_only"), ("B", POSITIONAL)], ["a", "b", None]),
        ([("a", POSITIONAL), ("More", "var_positional"), ("b", "keyword_only")], ["a", "more", "more"]),
        ([("a", POSITIONAL), ("b", "keyword_only"), ("c", "var_keyword")], ["a", None, None]),
    ],
)
def test_an_argument_goes_to_the_parameter_at_its_position(
    parameters: list[tuple[str, str]] | None, names: list[str | None]
) -> None:
    known = Known.of((), parameters)

    assert [known.name_at(position) for position in range(3)] == names
