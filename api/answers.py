"""How answers are written, and what of a thing the caller gets to see; the same in any application."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from flask import Response, request
from pydantic import BaseModel

from api.encoding import encode
from api.visibility import Sight, sight

Shape = TypeVar("Shape", bound=BaseModel)


def answer_json(value: Any, status: int = HTTPStatus.OK) -> Response:
    """Answer with any value."""
    return Response(encode(value), int(status), mimetype="application/json")


def answer_one(
    shape: BaseModel,
    fields: Collection[str] | None = None,
    status: int = HTTPStatus.OK,
    *,
    settings: Collection[str] = (),
    version: str = "",
) -> Response:
    """Answer with one thing, of which a client that has seen it gets no more than 304.

    Args:
        shape: The thing.
        fields: Which of its fields; None is for all.
        status: For what was done to it.
        settings: Which of its fields are what commands change. They alone count in ``If-Match``, not what else happens.
        version: What alone counts there, if it tells that by itself.
    """
    response = answer_json(_selected(shape, fields, sight()), status)
    response.add_etag()
    if settings:
        version = sha256(encode(shape.model_dump(include=set(settings)))).hexdigest()[:12]
    if version:
        response.set_etag(f"{version}.{response.get_etag()[0]}")
    response.make_conditional(request)
    return response


def answer_page(
    page: Sequence[BaseModel], next_cursor: str | None, fields: Collection[str] | None = None, **more: Any
) -> Response:
    """Answer with a part of a list, and with where it goes on."""
    seen = sight()
    items = [_selected(each, fields, seen) for each in page]
    response = answer_json({"items": items, "next_cursor": next_cursor, **more})
    if next_cursor is not None:
        response.headers["Link"] = f'<{_same_with(cursor=next_cursor)}>; rel="next"'
    return response


def _selected(shape: BaseModel, fields: Collection[str] | None, seen: Sight) -> Mapping[str, Any]:
    selected = shape.model_dump(include=None if fields is None else set(fields))
    return seen.of(selected, actor=getattr(shape, "actor", ""))


def _same_with(**changes: str) -> str:
    """Give the address of this request with other parameters; without the server's name, which a client makes up."""
    parameters = [(name, value) for name, value in request.args.items(multi=True) if name not in changes]
    return f"{quote(request.script_root + request.path)}?{urlencode([*parameters, *changes.items()])}"
