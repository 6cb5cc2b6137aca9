"""What a request holds, as models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from flask import Flask
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from api.inputs import read_body, read_query
from api.problems import BodyInvalid, BodyMalformed, ParametersInvalid
from api.shapes.lists import DIGITS, Instant, NamesOf, Query


class Place(BaseModel):
    x: int
    name: str = ""


class Asked(Query):
    many: list[Literal["a", "b"]] | None = None
    names: Annotated[list[str], NamesOf(Place)] | None = None
    number: Annotated[int, Field(ge=1), DIGITS] | None = None
    at: Instant | None = None


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    places: list[Place] = []


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    return Flask("test")


def asked(app: Flask, query: str) -> Asked:
    with app.test_request_context(f"/?{query}"):
        found = read_query(Asked)
        assert found is not None
        return found


def test_a_list_may_be_given_in_two_ways(app: Flask) -> None:
    for query in ("many=a,b&names=x", "many=a&many=b&names=x"):
        assert asked(app, query) == Asked(many=["a", "b"], names=["x"])


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("number=1&number=1", {"number": "is given more than once"}),
        ("number=1.0", {"number": "is a whole number"}),
        ("number=0", {"number": "input should be greater than or equal to 1"}),
        ("unknown=1", {"unknown": "is unknown"}),
        ("at=1700000000", {"at": "is a time with its zone, such as 2026-12-24T18:00:00Z"}),
        ("at=2026-12-24", {"at": "is a time with its zone, such as 2026-12-24T18:00:00Z"}),
        ("at=2026-12-24T18:00:00", {"at": "is a time with its zone, such as 2026-12-24T18:00:00Z"}),
    ],
)
def test_what_is_wrong_in_a_query_is_named(app: Flask, query: str, wrong: dict[str, str]) -> None:
    with pytest.raises(ParametersInvalid) as caught:
        asked(app, query)

    assert caught.value.more["invalid_params"] == [{"name": name, "reason": reason} for name, reason in wrong.items()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-24t18:00:00.5z", "2026-12-24T18:00:00.500000+00:00"),
        ("2026-12-24T18:00:00%2B21:09", "2026-12-23T20:51:00+00:00"),
        ("0001-01-01T00:00:00%2B01:00", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_any_time_of_any_zone_is_one_that_the_database_knows(app: Flask, text: str, expected: str) -> None:
    at = asked(app, f"at={text}").at

    assert at is not None
    assert at.isoformat() == expected


def test_a_view_without_parameters_refuses_all(app: Flask) -> None:
    with app.test_request_context("/?a=1"), pytest.raises(ParametersInvalid):
        read_query(None)


def refused(app: Flask, data: bytes, content_type: str = "application/json") -> Any:
    with app.test_request_context("/", method="POST", data=data, content_type=content_type):
        with pytest.raises(HTTPException) as caught:
            read_body(Body)
        return caught.value


def test_a_body_is_read(app: Flask) -> None:
    data = '{"count": 2, "places": [{"x": 1, "name": "ä"}]}'.encode()
    with app.test_request_context("/", method="POST", data=data, content_type="application/json"):
        assert read_body(Body) == Body(count=2, places=[Place(x=1, name="ä")])


def test_what_is_wrong_in_a_body_is_named_by_its_place(app: Flask) -> None:
    error = refused(app, b'{"count": 1, "places": [{"x": 1}, {"x": "secret"}], "a/b~c": 1}')

    assert isinstance(error, BodyInvalid)
    assert [each["pointer"] for each in error.more["errors"]] == ["#/places/1/x", "#/a~1b~0c"]
    assert "secret" not in str(error.more)


@pytest.mark.parametrize("data", [b"", b"{", b'{"count": 1}x', b"\xff", b'{"count": "\xc3("}'])
def test_what_is_no_json_is_malformed(app: Flask, data: bytes) -> None:
    assert isinstance(refused(app, data), BodyMalformed)


def test_what_is_said_to_be_something_else_is_not_read(app: Flask) -> None:
    assert isinstance(refused(app, b"count=1", "application/x-www-form-urlencoded"), UnsupportedMediaType)
