"""What of an actor's tasks is shown to nobody over HTTP: ``masked=("iban", "password")``.

An option of actors: names of parameters, and of fields of what is passed and returned, however deep they stand. So a
name need not be a parameter's, also where there is no ``**kwargs``: a result has fields, and so has an order that is
passed whole. Capital letters do not matter.

It is not in messages, for it says nothing about them. Workers announce it, and the API obeys (``api.visibility``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.broker.keys import wrong_text

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS = frozenset({"masked"})

_MOST = 100
_NAME_BYTES = 200


def wrong(options: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the names an actor masks; None if nothing is."""
    names = options.get("masked")
    if names is None:
        return None
    if isinstance(names, str):
        return f"masked is a text, not a tuple of names; ({names!r},) is one"
    if not isinstance(names, list | tuple | set | frozenset):
        return f"masked is a {type(names).__name__}, not a tuple of names"
    if len(names) > _MOST:
        return f"masked has {len(names)} names; {_MOST} are allowed"
    return next((complaint for name in names if (complaint := _wrong_name(name)) is not None), None)


def masked_names(options: Mapping[str, Any]) -> list[str]:
    """Write the names an actor masks as they are compared: in small letters, in order, each once."""
    return sorted({name.lower() for name in options.get("masked") or ()})


def _wrong_name(name: Any) -> str | None:
    if isinstance(name, str) and name != name.strip():
        return f"the masked name {name!r} has blanks around it, so that it would be nobody's"
    return wrong_text("masked name", name, _NAME_BYTES)
