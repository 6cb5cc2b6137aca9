"""The OpenAPI document: made of the endpoints, kept in ``openapi.json``, served as it is kept.

``./dev openapi`` writes it anew. A test compares the two, so that a change of the interface is seen in the change that
makes it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from flask_openapi3.models.components import Components
from flask_openapi3.models.info import Info
from flask_openapi3.models.path_item import PathItem
from flask_openapi3.models.schema import Schema

from api.discovery import blueprints_of
from api.endpoints import Endpoints
from api.problems import Problem

VERSION = "1.0.0"
_NAME = "openapi.json"
_ABOUT = (
    "Tasks, queues and workers of a task queue on PostgreSQL. Errors are problems (RFC 9457). Lists go on where their "
    "next_cursor says."
)


def stored() -> bytes:
    """Read the document as it is kept."""
    return files("api").joinpath(_NAME).read_bytes()


def written() -> bytes:
    """Make the document of the endpoints, as it is to be kept."""
    return (json.dumps(made(), indent=2, ensure_ascii=False) + "\n").encode()


def made() -> dict[str, Any]:
    """Make the document of the endpoints."""
    paths: dict[str, PathItem] = {}
    schemas: dict[str, Schema] = {}
    tags = []
    for blueprint in blueprints_of("api.blueprints.v1"):
        assert isinstance(blueprint, Endpoints)  # noqa: S101 - that is what the folder is for
        paths |= blueprint.paths
        schemas |= blueprint.components_schemas
        tags += blueprint.tags
    schemas |= _schemas_of_problems()
    document = {
        "openapi": "3.1.0",
        "info": _plain(Info(title="pipeline", version=VERSION, description=_ABOUT)),
        "servers": [{"url": "/"}],
        "tags": [_plain(tag) for tag in sorted(tags, key=lambda tag: tag.name)],
        "paths": {path: _plain(paths[path]) for path in sorted(paths)},
        "components": _plain(Components(schemas=dict(sorted(schemas.items())))),
    }
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _of_parameter(parameter["schema"])
    tidied: dict[str, Any] = _untitled(document)
    return tidied


def _of_parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out null, which no parameter of an address can be: it is not given."""
    some = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(some) == 1:
        schema = {**some[0], **schema}
        del schema["anyOf"]
    if schema.get("default", ...) is None:
        del schema["default"]
    schema.pop("description", None)  # the parameter has it
    return schema


def _untitled(value: Any, *, are_names: bool = False) -> Any:
    """Leave out titles, which repeat names. Among properties, "title" is a name itself."""
    if isinstance(value, list):
        return [_untitled(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _untitled(each, are_names=name == "properties")
        for name, each in value.items()
        if are_names or name != "title" or ("properties" not in value and "type" not in value and "anyOf" not in value)
    }


def _schemas_of_problems() -> dict[str, Schema]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    nested = schema.pop("$defs")
    return {name: Schema(**value) for name, value in {Problem.__name__: schema, **nested}.items()}


def _plain(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)


if __name__ == "__main__":
    import sys

    sys.stdout.buffer.write(written())
