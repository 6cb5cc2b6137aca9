"""What an actor is for, and what it is called with: workers announce it for those who have not loaded it.

It is the same in every process that has the same code, so that a worker that starts does not change what others have
announced. And it fails for no actor, whatever its defaults are: that would keep the worker from starting.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dramatiq import GenericActor

from pipeline.broker.masks import masked_names
from pipeline.text import clean

if TYPE_CHECKING:
    from dramatiq import Actor

_LONGEST = 200
_LONGEST_DESCRIPTION = 2000
#: Where an object happens to be in this process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an actor is called with."""

    name: str
    #: As ``inspect`` calls it, in small letters: ``positional_or_keyword``.
    kind: str
    #: Its type, as it is written.
    annotation: str | None
    is_required: bool
    #: As it is written.
    default: str | None


def announcement(actor: Actor[..., Any]) -> dict[str, Any]:
    """Tell what workers announce of an actor besides where its tasks wait, as JSON."""
    parameters = parameters_of(actor.fn)
    return {
        "description": description_of(actor.fn),
        "parameters": None if parameters is None else [asdict(each) for each in parameters],
        "masked": masked_names(actor.options),
    }


def description_of(function: Callable[..., Any]) -> str | None:
    """Give the beginning of a docstring; None if there is none."""
    text = inspect.getdoc(function)
    return clean(text[:_LONGEST_DESCRIPTION]) if text else None


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...] | None:
    """List what a function is called with, in its order; None if nobody can tell."""
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return None
    return tuple(_parameter(each) for each in signature.parameters.values())


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Give the signature of what an actor runs: of one that is a class, that of its ``perform``.

    Raises:
        TypeError, ValueError: Nobody can tell, as with some built-in functions.
    """
    return inspect.signature(function.perform if isinstance(function, GenericActor) else function)


def _parameter(each: inspect.Parameter) -> Parameter:
    has_default, is_many = each.default is not each.empty, each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    return Parameter(
        name=each.name,
        kind=each.kind.name.lower(),
        annotation=None if each.annotation is each.empty else _annotation(each.annotation),
        is_required=not has_default and not is_many,
        default=_written(each.default) if has_default else None,
    )


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):  # as with "from __future__ import annotations"
        return clean(annotation[:_LONGEST])
    if isinstance(annotation, type):
        return inspect.formatannotation(annotation)[:_LONGEST]
    return _written(annotation).replace("typing.", "")


def _written(value: Any) -> str:
    return clean(_ADDRESS.sub("", _SHORT.repr(value))[:_LONGEST])


def _short() -> reprlib.Repr:
    """Make what writes values: not all of a large one, sets in order, and also one whose ``__repr__`` fails."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _LONGEST
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = 20
    return short


_SHORT = _short()
