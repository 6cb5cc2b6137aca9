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
from flask_openapi3.models.tag import Tag

from api.discovery import blueprints_of
from api.endpoints import Endpoints
from api.problems import Problem

VERSION = "1.0.0"
#: What every operation takes that may answer 412.
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an earlier answer: only if nothing has changed since.",
    "schema": {"type": "string"},
}
_NAME = "openapi.json"
_ABOUT = (
    "Tasks, queues and workers of a task queue on PostgreSQL. Errors are problems (RFC 9457). Lists go on where their "
    "next_cursor says. Each operation names the scope that it needs (x-needed-scope): read, operate or admin, of which "
    "each holds those before it."
)
_TOKEN = "token"  # noqa: S105 - a name
_TOKEN_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of pipeline token create. Pages in a browser show the cookie of a session instead.",
}


def stored() -> bytes:
    """Read the document as it is kept."""
    return files("api").joinpath(_NAME).read_bytes()


def written() -> bytes:
    """Make the document of the endpoints, as it is to be kept."""
    return (json.dumps(made(), indent=2, ensure_ascii=False) + "\n").encode()


def made() -> dict[str, Any]:
    """Make the document of the endpoints."""
    paths, schemas, tags = _collected()
    schemas |= _schemas_of_problems()
    document = {
        "openapi": "3.1.0",
        "info": _plain(Info(title="pipeline", version=VERSION, description=_ABOUT)),
        "servers": [{"url": "/"}],
        "tags": [_plain(tags[name]) for name in sorted(tags)],
        "paths": {path: _plain(paths[path]) for path in sorted(paths)},
        "components": {
            **_plain(Components(schemas=dict(sorted(schemas.items())))),
            "securitySchemes": {_TOKEN: _TOKEN_SCHEME},
        },
        "security": [{_TOKEN: []}],
    }
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, schemas)
    tidied: dict[str, Any] = _untitled(document)
    return tidied


def _collected() -> tuple[dict[str, PathItem], dict[str, Schema], dict[str, Tag]]:
    """Put together what each blueprint brings; two may have operations of one path."""
    paths: dict[str, PathItem] = {}
    schemas: dict[str, Schema] = {}
    tags: dict[str, Tag] = {}
    for blueprint in blueprints_of("api.blueprints.v1"):
        assert isinstance(blueprint, Endpoints)  # noqa: S101 - that is what the folder is for
        for path, item in blueprint.paths.items():
            operations = {method: getattr(item, method) for method in item.model_fields_set}
            paths[path] = paths.get(path, PathItem()).model_copy(update=operations)
        for name, schema in blueprint.components_schemas.items():
            assert schemas.setdefault(name, schema) == schema, f"two shapes are called {name}"  # noqa: S101
        tags |= {tag.name: tag for tag in blueprint.tags}
    return paths, schemas, tags


def _complete(operation: dict[str, Any], schemas: dict[str, Schema]) -> None:
    """Add what the library does not know of an operation."""
    if "412" in operation["responses"]:
        operation.setdefault("parameters", []).append(dict(_IF_MATCH))
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _of_parameter(parameter["schema"])
    if "requestBody" in operation:
        operation["requestBody"]["required"] = bool(_schema_of(operation["requestBody"], schemas).required)


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


def _schema_of(body: Any, schemas: dict[str, Schema]) -> Schema:
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return schemas[name]


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
