"""What all questions and all lists have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import CoreSchema, core_schema

LIMIT, LONGEST = 50, 200

Item = TypeVar("Item", bound=BaseModel)


def _digits(value: Any) -> Any:
    """Let a number be written in one way only."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,19}", value):
        message = "is a whole number"
        raise ValueError(message)
    return value


#: Annotates a whole number in a query. Comes after its bounds, or the document would not tell them.
DIGITS = BeforeValidator(_digits)
#: What PostgreSQL can hold as a text.
_NO_NUL = r"^[^\x00]*$"
#: A text in a query, no longer than a label.
Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_NO_NUL)]


def _instant(value: Any) -> Any:
    """Let a time be written as RFC 3339 has it, with its zone."""
    if isinstance(value, str) and not re.fullmatch(_INSTANT, value, re.ASCII | re.IGNORECASE):
        message = "is a time with its zone, such as 2026-12-24T18:00:00Z"
        raise ValueError(message)
    return value


_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def _in_utc(at: datetime) -> datetime:
    """Give a time without its offset, of which PostgreSQL takes no more than 15:59, and nearest to the ends of time."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return _LAST if at.year > 1 else _FIRST


_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"

#: A time in a query.
Instant = Annotated[AwareDatetime, BeforeValidator(_instant), AfterValidator(_in_utc)]
#: The number of a worker, or of anything else that PostgreSQL counts.
Id = Annotated[int, Field(ge=1, le=2**63 - 1), DIGITS]
#: A name in a path.
Name = Annotated[str, StringConstraints(min_length=1, pattern=_NO_NUL)]


@dataclass(frozen=True)
class NamesOf:
    """Annotates a list of names of a shape's fields."""

    shape: type[BaseModel]
    only: frozenset[str] | None = None

    def __get_pydantic_core_schema__(self, *_: Any) -> CoreSchema:
        """Allow these names, and tell them in the document."""
        names = [name for name in self.shape.model_fields if self.only is None or name in self.only]
        return core_schema.list_schema(core_schema.literal_schema(names))


class Query(BaseModel):
    """Parameters; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


class Listing(Query):
    """Which part of a list is wanted."""

    limit: Annotated[int, Field(ge=1, le=LONGEST), DIGITS] = Field(
        default=LIMIT, description="How many entries at most."
    )
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = Field(
        default=None, description="Go on where an earlier answer ended: its `next_cursor`."
    )


class Answer(BaseModel):
    """Something that is answered, made of a row of the store."""

    model_config = ConfigDict(from_attributes=True)


def _without_required(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class Selectable(Answer):
    """Something of which a client may want some fields only, so that none is there for certain."""

    model_config = ConfigDict(json_schema_extra=_without_required)


def leading_to(parameter: str, *operations: str) -> Any:
    """Make the configuration of a page whose entries name what other operations are about: OpenAPI's links."""
    named = {parameter: f"$response.body#/items/0/{parameter}"}
    return {"openapi_extra": {"links": {name: {"operationId": name, "parameters": named} for name in operations}}}


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next_cursor: str | None = Field(description="Leads to the next part; null: there is none.")
