"""Pages of other origins: nothing for them, but for those in PIPELINE_CORS_ORIGINS, which may send a token.

They never get the cookie along, so whatever they do they do with a token that somebody gave them.
"""

from __future__ import annotations

from flask import Response, request

from api.extensions import app_settings

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID"
_RESPONSE_HEADERS = "ETag, Location, Retry-After, Link"
_MAX_AGE_SECONDS = "600"


def answer_preflight() -> Response | None:
    """Answer what browsers ask first, for an origin that is allowed; others go on and are told nothing."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers or not _is_allowed():
        return None
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _METHODS
    response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
    response.headers["Access-Control-Max-Age"] = _MAX_AGE_SECONDS
    return response


def mark(response: Response) -> Response:
    """Let pages of an origin that is allowed read an answer."""
    if app_settings().cors_origins:
        response.vary.add("Origin")
    if _is_allowed():
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
    return response


def _is_allowed() -> bool:
    allowed = {origin.strip() for origin in app_settings().cors_origins.split(",")} - {""}
    return request.headers.get("Origin") in allowed
