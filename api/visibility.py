"""What of a task somebody gets to see.

The scope ``read`` gets what the database's role ``pipeline_reader`` gets: what happens, but not with what. And
whoever asks, the values of some fields are masked, wherever they stand in arguments and results: those that
PIPELINE_MASKED_FIELDS names, and in an actor's tasks those that it masks itself. What somebody passed by position
is masked by the names of the actor's parameters, and all of it if nobody knows these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import request

from api.announced import Known, loaded
from api.auth import caller
from api.extensions import app_settings, attached
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
#: Where a request keeps what its caller sees.
_SIGHT = "pipeline.sight"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller sees."""

    payloads: bool
    #: In tasks of any actor, in small letters.
    masked: frozenset[str] = frozenset()
    #: What workers have announced.
    announced: Mapping[str, Known] = field(default_factory=dict)

    def of(self, fields: Mapping[str, Any], *, actor: str = "") -> dict[str, Any]:
        """Show a thing's fields: None for what is hidden, ``***`` for what is masked.

        Args:
            fields: By their names, as the views and the API call them; JSON as values and not as text.
            actor: Whose arguments they are.
        """
        return {name: self._shown(name, value, actor) for name, value in fields.items()}

    def masked_in(self, actor: str) -> frozenset[str]:
        """Name what is masked in an actor's tasks, in small letters."""
        return self.masked | self.masked_by(actor)

    def masked_by(self, actor: str) -> frozenset[str]:
        """Name what an actor masks itself."""
        return frozenset(name for known in self._known(actor) for name in known.masked)

    def _shown(self, name: str, value: Any, actor: str) -> Any:
        if name not in PAYLOADS:
            return value
        if not self.payloads:
            return None
        if name in _THINGS and isinstance(value, Mapping):
            return self.of(value, actor=str(value.get("actor", "")))
        if name not in _STRUCTURED:
            return value
        names = self.masked_in(actor)
        if name == "args":
            value = self._masked_args(value, actor, names)
        elif name == "payload" and isinstance(value, Mapping):
            value = self.of(value, actor=actor)  # a message, with arguments of its own
        return self._masked(value, names)

    def _masked(self, value: Any, names: Collection[str]) -> Any:
        """Replace the values of fields of these names, however deep they stand."""
        if isinstance(value, Mapping):
            if "args" in value and isinstance(actor := value.get("actor_name"), str):
                # A message to another actor: what a chain goes on with stands among the options.
                names = self.masked_in(actor).union(names)
                value = {**value, "args": self._masked_args(value["args"], actor, names)}
            return {
                key: MASK if str(key).lower() in names else self._masked(each, names) for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._masked(each, names) for each in value]
        return value

    def _masked_args(self, args: Any, actor: str, names: Collection[str]) -> Any:
        """Replace arguments that were passed by position to parameters of these names, or nobody knows to which.

        What this process has loaded and what workers run may differ in their parameters, so both count.
        """
        if not names or not isinstance(args, list | tuple):
            return args
        signatures = [known for known in self._known(actor) if known.positions is not None]
        hidden = [
            not signatures or any((name := known.name_at(at)) is None or name in names for known in signatures)
            for at in range(len(args))
        ]
        return [MASK if is_hidden else value for value, is_hidden in zip(args, hidden, strict=True)]

    def _known(self, actor: str) -> Sequence[Known]:
        here, announced = get_broker().actors.get(actor), self.announced.get(actor)
        return [*([] if here is None else [loaded(here)]), *([] if announced is None else [announced])]


def visible(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Show a thing's fields to the caller of this request."""
    return sight().of(fields, actor=str(fields.get("actor", "")))


def sight() -> Sight:
    """Tell what the caller of this request sees; the same as long as the request goes on."""
    seen: Sight | None = request.environ.get(_SIGHT)
    if seen is None:
        seen = request.environ[_SIGHT] = _sight()
    return seen


def _sight() -> Sight:
    settings = app_settings()
    names = frozenset(name.strip().lower() for name in settings.masked_fields.split(",")) - {""}
    sees_payloads = settings.read_shows_payloads or caller().scope is not Scope.READ
    return Sight(sees_payloads, names, attached().announced.actors())
