"""A worker process among all others: how often it looks for tasks, whether it LISTENs, and which duties are its own.

What one process may do a few times a second is too much if two hundred do. So they share it: each heartbeat tells a
process how many there are and where it stands among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.store.workers import Standing

if TYPE_CHECKING:
    from pipeline.settings import Settings

#: So many free processes all hear every NOTIFY, and each looks as often after its work as if it were alone.
_FEW = 8
#: Of more only so many listen: whoever hears a NOTIFY looks, and one task is enough for one of them.
_LISTENERS = 3
#: By what part each further process stretches the pauses of all: together they look the more often the more they are.
_STRETCH = 0.2
_SHORTEST_SECONDS = 0.001
#: Where a NOTIFY wakes: as long as a process that sends all the time takes from one to the next.
_SHORTEST_LISTENING_SECONDS = 0.005


class Fleet:
    """What a process makes of its standing. Until its first heartbeat, it takes itself to be alone.

    Free are those that have a thread left for one more task, since the others neither look nor need to be woken. Only
    workers of the same queues count for this: nobody else finds the tasks of a queue that is served by one process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._standing = Standing()

    def learn(self, standing: Standing) -> None:
        """Take in what the last heartbeat told."""
        self._standing = standing

    @property
    def shortest_pause(self) -> float:
        """Seconds to the first look after some work; in a large fleet somebody else looks all the time."""
        free = 1 + self._standing.others_free
        shortest = _SHORTEST_LISTENING_SECONDS if self._settings.listen else _SHORTEST_SECONDS
        return max(shortest, 0 if free <= _FEW else _SHORTEST_SECONDS * free)

    @property
    def longest_pause(self) -> float:
        """Seconds between two looks into an empty queue."""
        alone = self._settings.poll_max_ms / 1000
        # Nobody beats while it waits.
        most = min(self._settings.fleet_poll_max_ms / 1000, self._settings.beat_seconds / 2)
        return min(alone * (1 + _STRETCH * self._standing.others_free), max(most, alone))

    @property
    def listens(self) -> bool:
        """Tell whether to be woken by NOTIFY: all of a few, the first ones of many."""
        return self._standing.others_free < _FEW or self._standing.older_free < _LISTENERS

    def patience(self, doers: int) -> float:
        """Tell how many times as long as usual a process waits that a duty of the whole fleet is not left to.

        The first ``doers`` do it. The others look seldom, in case that those can beat and do nothing else.
        """
        if self._standing.older < doers:
            return 1.0
        return 10.0 + 5.0 * self._standing.older
