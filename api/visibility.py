"""What of a task somebody gets to see.

The scope ``read`` gets what the database's role ``pipeline_reader`` gets: what happens, but not with what. And
whoever asks, the values of some fields are masked, wherever they stand in arguments and results:
PIPELINE_MASKED_FIELDS.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

from api.auth import caller
from api.extensions import app_settings
from api.scopes import Scope
from pipeline import get_broker

#: What people put into tasks, or got out of them; the same columns as in sql/functions/99_grant.sql.
PAYLOADS = frozenset(
    {
        "args",
        "kwargs",
        "options",
        "payload",
        "result",
        "error",
        "error_message",
        "traceback",
        "note",
        "message",
        "detail",
        "old_value",
        "new_value",
    }
)
#: Those that are structured, so that fields can be told apart.
_STRUCTURED = frozenset({"args", "kwargs", "options", "payload", "result"})
#: Those that tell what a thing was and is, with fields such as these again: a schedule's arguments.
_THINGS = frozenset({"old_value", "new_value"})
MASK = "***"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller sees."""

    payloads: bool
    #: In small letters.
    masked: frozenset[str] = frozenset()

    def of(self, fields: Mapping[str, Any], *, actor: str = "") -> dict[str, Any]:
        """Show a thing's fields: None for what is hidden, ``***`` for what is masked.

        Args:
            fields: By their names, as the views and the API call them; JSON as values and not as text.
            actor: Whose arguments they are. Only if this process knows it is it known what stands where in ``args``.
        """
        return {name: self._shown(name, value, actor) for name, value in fields.items()}

    def _shown(self, name: str, value: Any, actor: str) -> Any:
        if name not in PAYLOADS:
            return value
        if not self.payloads:
            return None
        if name in _THINGS and isinstance(value, Mapping):
            return self.of(value, actor=str(value.get("actor", "")))
        if name == "args" and isinstance(value, list | tuple):
            value = _mask_positions(value, _parameters(actor), self.masked)
        return mask(value, self.masked) if name in _STRUCTURED else value


def visible(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Show a thing's fields to the caller of this request."""
    return sight().of(fields, actor=str(fields.get("actor", "")))


def sight() -> Sight:
    """Tell what the caller of this request sees."""
    settings = app_settings()
    names = frozenset(name.strip().lower() for name in settings.masked_fields.split(",")) - {""}
    return Sight(settings.read_shows_payloads or caller().scope is not Scope.READ, names)


def mask(value: Any, names: Collection[str]) -> Any:
    """Replace the values of fields of these names (in small letters), however deep they stand."""
    if isinstance(value, Mapping):
        return {key: MASK if str(key).lower() in names else mask(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [mask(each, names) for each in value]
    return value


def _mask_positions(values: Sequence[Any], parameters: Sequence[str], names: Collection[str]) -> list[Any]:
    """Replace arguments that were passed by position to parameters of these names."""
    return [
        MASK if position < len(parameters) and parameters[position].lower() in names else value
        for position, value in enumerate(values)
    ]


@cache
def _parameters(actor: str) -> tuple[str, ...]:
    """Name the parameters of an actor that this process knows."""
    known = get_broker().actors.get(actor)
    try:
        return () if known is None else tuple(signature(known.fn).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return ()
