"""What a request holds, as models."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote_to_bytes

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import NotFound, UnsupportedMediaType

from api.problems import BodyInvalid, BodyMalformed, ParametersInvalid

Model = TypeVar("Model", bound=BaseModel)


def read_path(model: type[Model], given: dict[str, str]) -> Model:
    """Read what the path names. What cannot name anything names nothing: 404."""
    try:
        return model.model_validate(given)
    except ValidationError:
        raise NotFound from None


def read_query(model: type[Model] | None) -> Model | None:
    """Read the parameters; a list may be given as ``?a=1&a=2`` and as ``?a=1,2``. None is for no parameters at all.

    Raises:
        ParametersInvalid: Some are unknown, wrong, or given more often than makes sense.
    """
    _refuse_malformed(request.query_string)
    lists = _lists_of(model) if model else frozenset()
    given: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, values in request.args.lists():
        if name in lists:
            given[name] = [word for value in values for word in value.split(",")]
        elif len(values) > 1:
            wrong[name] = "is given more than once"
        else:
            given[name] = values[0]
    if model is None:
        wrong = dict.fromkeys(request.args, "is unknown")
    if wrong:
        raise ParametersInvalid(wrong)
    try:
        return None if model is None else model.model_validate(given)
    except ValidationError as error:
        raise ParametersInvalid({str(each["loc"][0]): _reason(each) for each in _errors(error)}) from None


def read_headers(model: type[Model]) -> Model:
    """Read the headers that an operation knows; what others there are is no business of ours.

    Raises:
        ParametersInvalid: One is wrong.
    """
    names = [field.alias or name for name, field in model.model_fields.items()]
    try:
        return model.model_validate({name: request.headers[name] for name in names if name in request.headers})
    except ValidationError as error:
        raise ParametersInvalid({str(each["loc"][0]): _reason(each) for each in _errors(error)}) from None


def read_body(model: type[Model]) -> Model:
    """Read the JSON of a body. Where nothing has to be said, there need not be one.

    Raises:
        UnsupportedMediaType: It is said to be something else.
        BodyMalformed: It is no JSON.
        BodyInvalid: It is not what the operation takes.
    """
    data = request.get_data()
    if not data and not any(field.is_required() for field in model.model_fields.values()):
        data = b"{}"
    elif not request.is_json:
        raise UnsupportedMediaType("Send application/json")
    try:
        data.decode()
        return model.model_validate_json(data)
    except UnicodeDecodeError:
        raise BodyMalformed from None
    except ValidationError as error:
        found = _errors(error)
        if any(each["type"] == "json_invalid" for each in found):
            raise BodyMalformed from None
        raise BodyInvalid({_pointer(each["loc"]): _reason(each) for each in found}) from None


def _refuse_malformed(query: bytes) -> None:
    """Refuse bytes that are no UTF-8, which would be read as if something else had been sent."""
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise ParametersInvalid({}, "The query is not encoded in UTF-8") from None


@cache
def _lists_of(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if _is_list(field.annotation))


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_list(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return any(_is_list(each) for each in get_args(annotation) if each is not NoneType)
    return annotation is list or origin is list


def _errors(error: ValidationError) -> list[Any]:
    """List what is wrong, without repeating what was sent."""
    return list(error.errors(include_url=False, include_context=False, include_input=False))


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is unknown"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _pointer(location: tuple[int | str, ...]) -> str:
    """Write a JSON pointer (RFC 6901) as a fragment."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
