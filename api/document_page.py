"""The OpenAPI document as a page shows it: operations in groups, and schemas in a few words."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

_JSON = ("application/json", "application/problem+json")


def groups_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Put the operations together that are about the same noun."""
    groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups[operation["tags"][0]].append(_operation(path, method, operation))
    return [{"name": name, "operations": operations} for name, operations in groups.items()]


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "scope": operation.get("x-needed-scope"),
        "parameters": operation.get("parameters", []),
        "body": _schema(operation.get("requestBody", {})),
        "answers": [
            {"status": status, "description": answer["description"], "schema": _schema(answer)}
            for status, answer in sorted(operation["responses"].items())
        ],
    }


def _schema(part: dict[str, Any]) -> Any:
    content = part.get("content", {})
    return next((content[kind]["schema"] for kind in _JSON if kind in content), None)


def shown(schema: dict[str, Any] | None) -> Markup:
    """Say in a few words what a schema is, with links to those that have names."""
    if not schema:
        return Markup("")
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(shown(each) for each in schema["anyOf"])
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(each) for each in schema["enum"])
    if schema.get("type") == "array":
        return Markup("list of {}").format(shown(schema["items"]))
    words = [schema.get("format") or schema.get("type") or "any"]
    words += [f"from {schema['minimum']:g}"] if "minimum" in schema else []
    words += [f"to {schema['maximum']:,}"] if "maximum" in schema else []
    words += [f"({schema['default']})"] if schema.get("default") is not None else []
    return Markup(" ").join(words)
