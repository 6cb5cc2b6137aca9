"""The OpenAPI document is that of the endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from api import document
from api.scopes import Scope

DOCUMENT = document.made()


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_document_is_that_of_the_endpoints() -> None:
    """Write it anew with ./dev openapi."""
    assert json.loads(document.stored()) == DOCUMENT
    assert document.stored() == document.written()


def test_every_operation_says_which_scope_it_needs() -> None:
    for path, method, operation in operations():
        is_open = operation.get("security", DOCUMENT["security"]) == []
        assert is_open or operation["x-needed-scope"] in set(Scope), (path, method)
        assert {"401", "403"} <= operation["responses"].keys()


def test_every_operation_has_a_name_of_its_own_and_tells_what_it_does() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]

    assert len(names) == len(set(names))
    assert all(operation["summary"].endswith(".") for _, _, operation in operations())


def test_references_lead_to_schemas() -> None:
    def references(value: Any) -> Iterator[str]:
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            if name == "$ref":
                yield each
            elif isinstance(each, dict | list):
                yield from references(each)

    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= known
