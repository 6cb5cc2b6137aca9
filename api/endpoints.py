"""How endpoints are declared: routes, what they take and answer, and the scope they need.

To add one, write a function into the file of its noun in ``api/blueprints/v1`` (a new noun: a new file, which is found
by being there)::

    blueprint = Endpoints("queues", __name__)

    @blueprint.get("/<queue>", responses={200: Queue, 404: NOT_FOUND})
    @needs(Scope.READ)
    def show_queue(path: QueuePath) -> Response:
        \"\"\"Show one queue.\"\"\"
        row = read(status.queue, path.queue)
        if row is None:
            raise QueueUnknown(path.queue)
        return answer_one(Queue.of(row))

- The parameters ``path``, ``query`` and ``body`` are models (``api/shapes``); they are read and checked before the
  function is called. What a path names wrongly is 404, what is wrong in a query is 400 and names the parameters, what
  is wrong in a body is 422 and names the fields. Parameters that no model knows are refused.
- The docstring is the operation's text in the OpenAPI document, ``responses`` its answers; those in ``PROBLEMS`` are
  added. ``./dev openapi`` writes the document anew, and a test compares it.
- Ask the database by ``api.reading.read``: in a transaction with a time limit.
- An error is a row in ``api.errors.STATUSES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from flask import Blueprint, Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.exceptions import NotAcceptable

from api.inputs import read_body, read_path, read_query
from api.problems import PROBLEMS, described
from api.scopes import Scope

#: Where all of it lives, behind the prefix that the extension was given.
ROOT = "/api/v1"
_JSON = ("application/json", "application/problem+json")


class Routes(Blueprint):
    """Routes that stand beside the REST API; each works with and without a slash at its end, in any application."""

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Add a route."""
        super().add_url_rule(rule, *args, **{"strict_slashes": False, **options})


class Endpoints(APIBlueprint):
    """The endpoints of one noun."""

    def __init__(self, noun: str, import_name: str) -> None:
        super().__init__(
            f"v1_{noun}",
            import_name,
            url_prefix=f"{ROOT}/{noun}",
            abp_tags=[Tag(name=noun)],
            abp_responses={status: described(status) for status in PROBLEMS},
        )

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Add a route, as :class:`Routes` does."""
        super().add_url_rule(rule, *args, **{"strict_slashes": False, **options})

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **more: Any) -> Any:
        """Call an operation as its function is called, and add the scope, which tools may read."""
        more["operation_id"] = more.get("operation_id") or func.__name__
        scope: Scope | None = getattr(func, "needed_scope", None)
        if scope is not None:
            more["openapi_extensions"] = {**(more.get("openapi_extensions") or {}), "x-needed-scope": scope.value}
        return super()._collect_openapi_info(rule, func, **more)

    @staticmethod
    def create_view_func(  # type: ignore[override]
        func: Callable[..., Response], *models: type[BaseModel] | None, **_: Any
    ) -> Callable[..., Response]:
        """Read and check what the view takes, ourselves.

        The library's way makes a schema in each request, answers by an attribute of the application, which may be
        somebody else's, takes a parameter given twice, and tells a query from a body in no way.
        """
        _header, _cookie, path, query, _form, body, _raw = models

        @wraps(func)
        def view(**given: str) -> Response:
            _check_accept(getattr(func, "media_types", _JSON))
            arguments: dict[str, BaseModel] = {}
            if path is not None:
                arguments["path"] = read_path(path, given)
            checked = read_query(query)
            if checked is not None:
                arguments["query"] = checked
            if body is not None:
                arguments["body"] = read_body(body)
            return func(**arguments)

        return view


def _check_accept(offered: Sequence[str]) -> None:
    """Refuse whoever wants nothing of what there is: JSON, if a view says nothing else (its ``media_types``)."""
    accepted = request.accept_mimetypes
    if accepted and accepted.best_match(offered) is None:
        raise NotAcceptable(f"This is {' or '.join(offered)}")
