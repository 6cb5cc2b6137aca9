"""What has changed between two looks, and what of it was told already. Nothing here asks anybody."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from api.live.snapshots import Snapshot
    from pipeline.store.live import Look

_POSITION = re.compile(r"(\d{1,13})-(\d{1,18})-(\d{1,6})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has followed: the ``id`` of events. All in it is the database's, so any web process can go on.

    ``held`` is how many tasks workers held then. Where there were none and no claim was made since, none has ended.
    """

    at: datetime
    claims: int
    held: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what an event had as its id; None for anything else."""
        match = _POSITION.fullmatch(text)
        if match is None:
            return None
        ms, claims, held = map(int, match.groups())
        return cls(_EPOCH + timedelta(milliseconds=ms), claims, held)

    def __str__(self) -> str:
        return f"{(self.at - _EPOCH) // timedelta(milliseconds=1)}-{self.claims}-{self.held}"


@dataclass(frozen=True, slots=True)
class Changes:
    """The tasks that may have changed, and whether these are all."""

    ids: tuple[int, ...] = ()
    are_all: bool = True


def between(before: Look, now: Look, *, claims: int) -> Changes:
    """Compare two looks.

    What was asked for since a time overlaps: what is in both was told already. A claim that was made and has ended in
    between was in neither look, but its number is used up: then something has changed that is not in the list.

    Args:
        before: The earlier look.
        now: The later one.
        claims: The number of the last claim at the look before the earlier one: a claim that was being committed during
            the earlier look and was gone at this one is so noticed here, too.
    """
    ids = (
        *(now.changed - before.changed),
        *(before.held - now.held),
        *(now.running - before.running),
        *now.reported,
        *(now.fresh - before.fresh),
        *(now.due - before.due),
        *(now.claimed - before.claimed),
    )
    made = now.claims - claims
    seen = sum(claim > claims for claim in now.seen | before.seen)
    are_all = now.is_complete and made <= seen and not now.sweeps - before.sweeps
    return Changes(tuple(dict.fromkeys(ids)), are_all)


def since(position: Position, now: Look) -> Changes:
    """Tell what has changed for a client that was away, by a look at what is new since its position."""
    ids = (*now.changed, *now.running, *now.fresh, *now.due, *now.claimed)
    is_quiet = now.claims == position.claims and position.held == 0
    return Changes(tuple(dict.fromkeys(ids)), now.is_complete and is_quiet and not now.sweeps)


class Told:
    """Which state was told last of which task: the newest so many, so that nothing is told twice for nothing."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        #: The one told last comes last.
        self._versions: dict[int, tuple[str, bool]] = {}

    def news(self, snapshots: Iterable[Snapshot]) -> list[Snapshot]:
        """Choose those that were not told so, and take them as told now."""
        return [snapshot for snapshot in snapshots if self._is_news(snapshot)]

    def _is_news(self, snapshot: Snapshot) -> bool:
        told = (snapshot.version, snapshot.is_final)
        if self._versions.get(snapshot.row.id) == told:
            return False
        self._versions.pop(snapshot.row.id, None)
        self._versions[snapshot.row.id] = told
        if len(self._versions) > self._most:
            del self._versions[next(iter(self._versions))]
        return True

    def unfinished(self, most: int) -> list[int]:
        """List the tasks told last that something will still happen to."""
        waiting = (task_id for task_id, (_, is_final) in reversed(self._versions.items()) if not is_final)
        return [task_id for task_id, _ in zip(waiting, range(most), strict=False)]
