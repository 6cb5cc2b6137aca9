"""How answers are written. None of it depends on the application, which may be somebody else's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from flask import Response, request
from pydantic import BaseModel

from api.encoding import encode

Shape = TypeVar("Shape", bound=BaseModel)


def answer_json(value: Any, status: int = HTTPStatus.OK) -> Response:
    """Answer with any value."""
    return Response(encode(value), int(status), mimetype="application/json")


def answer_one(shape: BaseModel, fields: Collection[str] | None = None) -> Response:
    """Answer with one thing, of which a client that has seen it gets no more than 304.

    Args:
        shape: The thing.
        fields: Which of its fields; None is for all.
    """
    response = answer_json(_selected(shape, fields))
    response.add_etag()
    response.make_conditional(request)
    return response


def answer_page(
    page: Sequence[BaseModel], next_cursor: str | None, fields: Collection[str] | None = None, **more: Any
) -> Response:
    """Answer with a part of a list, and with where it goes on."""
    items = [_selected(each, fields) for each in page]
    response = answer_json({"items": items, "next_cursor": next_cursor, **more})
    if next_cursor is not None:
        response.headers["Link"] = f'<{_same_with(cursor=next_cursor)}>; rel="next"'
    return response


def _selected(shape: BaseModel, fields: Collection[str] | None) -> Mapping[str, Any]:
    return shape.model_dump(include=None if fields is None else set(fields))


def _same_with(**changes: str) -> str:
    """Give the address of this request with other parameters; without the server's name, which a client makes up."""
    parameters = [(name, value) for name, value in request.args.items(multi=True) if name not in changes]
    return f"{quote(request.script_root + request.path)}?{urlencode([*parameters, *changes.items()])}"
