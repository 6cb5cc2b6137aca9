"""What is known of actors that decides what of their tasks is shown: masked names, and what stands where in arguments.

A process knows it of the actors it has loaded. Of all others it knows what workers have announced, and asks for that
again when a few seconds are over; for all actors at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.broker.masks import masked_names
from pipeline.broker.signatures import parameters_of

if TYPE_CHECKING:
    from dramatiq import Actor

    from pipeline.store.actors import ActorMasks

_SECONDS = 5.0
_BY_POSITION = frozenset({"positional_only", "positional_or_keyword"})


@dataclass(frozen=True, slots=True)
class Known:
    """What one source knows of an actor. Names are in small letters."""

    #: What it masks itself.
    masked: frozenset[str] = frozenset()
    #: Which parameters take arguments by position, in their order; None: nobody can tell.
    positions: tuple[str, ...] | None = None
    #: Which one takes those that are left.
    rest: str | None = None

    @classmethod
    def of(cls, masked: Iterable[str], parameters: Iterable[tuple[str, str]] | None) -> Known:
        """Sort out parameters, each with its name and kind."""
        if parameters is None:
            return cls(frozenset(masked))
        named = [(name.lower(), kind) for name, kind in parameters]
        rest = next((name for name, kind in named if kind == "var_positional"), None)
        return cls(frozenset(masked), tuple(name for name, kind in named if kind in _BY_POSITION), rest)

    def name_at(self, position: int) -> str | None:
        """Name the parameter that takes the argument at a position; None if there is none, or nobody can tell."""
        positions = self.positions or ()
        return positions[position] if position < len(positions) else self.rest


class Announced:
    """What workers have announced of all actors, not older than a few seconds.

    Args:
        fetch: Reads it.
        seconds: For how long that is good.
        clock: Tells the time.
    """

    def __init__(
        self,
        fetch: Callable[[], Iterable[ActorMasks]],
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._clock = clock
        #: Until when it is good, and what it is: replaced together, since requests are served by many threads.
        self._read: tuple[float, Mapping[str, Known]] = (float("-inf"), {})

    def actors(self) -> Mapping[str, Known]:
        """Tell it, by their names. Whoever comes when it has to be read anew reads it, maybe several at a time.

        Raises:
            QueryTimedOut: Reading it would take too long: 504. As if it could not be read at all (503), nothing is
                shown: what was known before may be too little.
        """
        now = self._clock()
        good_until, known = self._read
        if now < good_until:
            return known
        known = {row.actor: _announced(row) for row in self._fetch()}
        self._read = (now + self._seconds, known)
        return known


def _announced(row: ActorMasks) -> Known:
    is_told = row.names is not None and row.kinds is not None
    return Known.of(row.masked, zip(row.names or (), row.kinds or (), strict=True) if is_told else None)


@cache
def loaded(actor: Actor[..., Any]) -> Known:
    """Tell what this process knows of an actor that it has loaded."""
    parameters = parameters_of(actor.fn)
    named = None if parameters is None else [(each.name, each.kind) for each in parameters]
    return Known.of(masked_names(actor.options), named)
