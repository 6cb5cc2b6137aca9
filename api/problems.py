"""What an error looks like: RFC 9457, ``application/problem+json``, whose ``type`` stays the same for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import BadRequest, UnprocessableEntity

from api.encoding import encode

MEDIA_TYPE = "application/problem+json"
_URN = "urn:pipeline:problem:"
#: Of what a client made up, so much is repeated.
_NAMES, _NAME_LENGTH = 20, 100

#: The types of what has no class of its own, by status.
KINDS: Mapping[int, str] = {
    400: "malformed-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "conflict",
    412: "precondition-failed",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "body-invalid",
    429: "too-many-requests",
    500: "internal-error",
    503: "unavailable",
    504: "query-timed-out",
}

#: What any endpoint may answer besides what it says itself.
PROBLEMS = (400, 401, 403, 406, 413, 429, 503, 504)

_MEANINGS = {
    400: "A parameter is unknown or wrong; `invalid_params` names it.",
    401: "No token, or none that is good.",
    403: "The token's scopes do not include the needed one.",
    404: "There is no such thing.",
    406: "The client accepts no JSON.",
    409: "The state does not allow it; `state` and `allowed_actions` say what is.",
    412: "It was changed meanwhile.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "A field of the body is wrong; `errors` names it.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The database does not answer; `Retry-After` says when to come back.",
    504: "The answer would take too long to find; ask for less.",
}


class InvalidParameter(BaseModel):
    """A parameter that is wrong."""

    name: str
    reason: str


class InvalidField(BaseModel):
    """A field of the body that is wrong."""

    pointer: str = Field(description="Where it is: a JSON pointer (RFC 6901) as a fragment.")
    detail: str


class Problem(BaseModel):
    """What is wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Which problem it is; does not change.")
    title: str = Field(description="The phrase of the status.")
    status: int
    detail: str = Field(description="What is wrong here, for people.")
    invalid_params: list[InvalidParameter] | None = Field(default=None, description="With status 400.")
    errors: list[InvalidField] | None = Field(default=None, description="With status 422.")
    state: str | None = Field(default=None, description="With status 409: what the thing is in now.")
    allowed_actions: list[str] | None = Field(default=None, description="With status 409: what could be done instead.")


class ParametersInvalid(BadRequest):
    """Parameters of the query are unknown or wrong."""

    kind = "invalid-parameters"

    def __init__(self, reasons: Mapping[str, str], detail: str = "") -> None:
        named = [(name[:_NAME_LENGTH], reason) for name, reason in list(reasons.items())[:_NAMES]]
        self.more = {"invalid_params": [{"name": name, "reason": reason} for name, reason in named]}
        super().__init__(detail or "; ".join(f"{name} {reason}" for name, reason in named))


class BodyMalformed(BadRequest):
    """The body is no JSON."""

    kind = "malformed-body"

    def __init__(self) -> None:
        super().__init__("The body is no JSON in UTF-8")


class BodyInvalid(UnprocessableEntity):
    """The body is JSON, but not what the operation takes."""

    kind = "body-invalid"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        named = [(pointer[:_NAME_LENGTH], reason) for pointer, reason in list(reasons.items())[:_NAMES]]
        self.more = {"errors": [{"pointer": pointer, "detail": reason} for pointer, reason in named]}
        super().__init__("Some fields of the body are wrong")


def problem(status: HTTPStatus, kind: str, detail: str, **more: Any) -> Response:
    """Make an answer that says what is wrong."""
    type_ = f"{_URN}{kind}" if kind else "about:blank"
    content = {"type": type_, "title": status.phrase, "status": status.value, "detail": detail, **more}
    return Response(encode(content), status.value, mimetype=MEDIA_TYPE)


def kind_of(error: type[Exception]) -> str:
    """Name the type of an error's class: that of TaskNotFound is task-not-found."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def described(status: int) -> dict[str, Any]:
    """Describe a problem as an answer in the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}}


NOT_FOUND = described(404)
#: Not a problem: the client has it already.
UNCHANGED = {"description": "Nothing has changed since the answer with the `ETag` in `If-None-Match`."}
