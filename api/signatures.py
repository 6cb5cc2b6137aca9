"""What actors are called with, as far as this process has loaded them."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from api.shapes.actors import Parameter
from pipeline import get_broker

_LONGEST = 200


def description_of(actor: str) -> str | None:
    """Give an actor's docstring; None if this process has not loaded it, or it has none."""
    found = get_broker().actors.get(actor)
    return None if found is None else inspect.getdoc(found.fn)


def parameters_of(actor: str) -> list[Parameter] | None:
    """List an actor's parameters; None if this process has not loaded it."""
    found = get_broker().actors.get(actor)
    return None if found is None else _parameters(found.fn)


@cache
def _parameters(function: Any) -> list[Parameter] | None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return None
    return [_parameter(each) for each in signature.parameters.values()]


def _parameter(each: inspect.Parameter) -> Parameter:
    has_default, is_many = each.default is not each.empty, each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    return Parameter.model_validate(
        {
            "name": each.name,
            "kind": each.kind.name.lower(),
            "annotation": None
            if each.annotation is each.empty
            else inspect.formatannotation(each.annotation)[:_LONGEST],
            "is_required": not has_default and not is_many,
            "default": repr(each.default)[:_LONGEST] if has_default else None,
        }
    )
