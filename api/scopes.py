"""What somebody must be allowed to do before a view answers. A view only says it; who checks it is told elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])


class Scope(StrEnum):
    """What a token is good for."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


def needs(scope: Scope) -> Callable[[View], View]:
    """Say which scope a view needs. Stands right above the function, below its route."""

    def record(view: View) -> View:
        view.needed_scope = scope  # type: ignore[attr-defined]
        return view

    return record
