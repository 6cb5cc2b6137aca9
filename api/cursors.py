"""Where a list goes on: the place of the last entry that was seen, signed.

A cursor belongs to one list and to what was asked of it; any other one is refused. It names a place in an order that
does not change, so that nothing is shown twice or left out because of what comes or goes meanwhile.

All processes that serve an application must agree on the key. It is made of the application's ``SECRET_KEY``, or, where
there is none, of the database's address, which they have in common and which holds its password. Whoever could forge a
cursor would get nothing but another place in a list that he may read anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flask import current_app
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import BaseModel

from api.problems import ParametersInvalid
from api.shapes.lists import Listing
from pipeline import get_broker

#: What may change from one part of a list to the next.
_FREE = frozenset({"cursor", "limit", "fields", "include", "count"})
_LONGEST = 2000

Row = TypeVar("Row")

#: Numbers and texts, in the order of the list.
Place = list[Any]


def sign(list_name: str, asked: BaseModel, place: Place) -> str:
    """Write a cursor."""
    return str(_serializer(list_name).dumps([_digest(asked), *place]))


def read(list_name: str, asked: BaseModel, cursor: str | None) -> Place | None:
    """Read a cursor; None is the beginning.

    Raises:
        ParametersInvalid: It was not made by :func:`sign` for the same question.
    """
    if cursor is None:
        return None
    digest: Any
    place: Place
    try:
        digest, *place = _serializer(list_name).loads(cursor[:_LONGEST])
    except (BadSignature, ValueError, TypeError):
        digest, place = None, []
    if digest != _digest(asked):
        raise ParametersInvalid({"cursor": "is the next_cursor of an earlier answer to the same question"})
    return place


def cut(
    list_name: str, asked: Listing, rows: Sequence[Row], place: Callable[[Row], Place]
) -> tuple[Sequence[Row], str | None]:
    """Cut off what was read beyond the part that was wanted; return that part, and the cursor of the next one."""
    page = rows[: asked.limit]
    return page, sign(list_name, asked, place(page[-1])) if len(rows) > asked.limit else None


def _serializer(list_name: str) -> URLSafeSerializer:
    secret = current_app.secret_key or get_broker().url
    return URLSafeSerializer(
        secret, salt=f"pipeline.cursor.{list_name}", signer_kwargs={"digest_method": hashlib.sha256}
    )


def _digest(asked: BaseModel) -> str:
    """Tell one question from another."""
    text = asked.model_dump_json(exclude=set(_FREE), exclude_none=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
