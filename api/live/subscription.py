"""What one client is to be told: the queue between the listener and the client's own thread."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from api.live.changes import Position
from api.live.frames import frame

#: So many events wait for a client. One that is further behind is better off with a new snapshot.
_MOST_WAITING = 16


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell."""

    frame: bytes
    #: It tells the state of a task.
    is_state: bool = False
    #: Nothing follows.
    is_last: bool = False


#: A browser connects again after it, and is refused for good.
_REFUSED = Event(
    frame("refused", {"detail": "The token or the session that this was begun with has ended."}), is_last=True
)


class Subscription:
    """A queue that never holds up whoever puts something into it.

    Args:
        sees_payloads: Whether the client is told what there is in tasks besides how they are.
        credential: The hash of what it has shown, with which it may watch for as long as that is good. None: always.
    """

    def __init__(self, *, sees_payloads: bool = True, credential: bytes | None = None) -> None:
        self.sees_payloads = sees_payloads
        self.credential = credential
        #: It may not watch any more.
        self.is_refused = False
        self._events: deque[Event] = deque()
        self._is_filled = threading.Condition()

    def put(self, event: Event) -> None:
        """Add something to tell."""
        with self._is_filled:
            if self.is_refused:
                return
            if len(self._events) >= _MOST_WAITING:
                self._make_room()
            self._events.append(event)
            self._is_filled.notify()

    def take(self, seconds: float) -> Event | None:
        """Return what is to be told next; None if there was nothing for so long."""
        with self._is_filled:
            if not self._events:
                self._is_filled.wait(seconds)
            return self._events.popleft() if self._events else None

    def refuse(self) -> None:
        """Tell nothing more, not even what waits."""
        with self._is_filled:
            self.is_refused = True
            self._events.clear()
            self._events.append(_REFUSED)
            self._is_filled.notify()

    def _make_room(self) -> None:
        """Leave out the oldest: of what follows, each tells all there is."""
        self._events.popleft()


class Follower(Subscription):
    """A client that follows everything.

    Args:
        position: What it has seen already; None: nothing.
        lost: Why it does not know any more what it has seen; "": it does.
        sees_payloads: As of every subscription.
        credential: The same.
    """

    def __init__(
        self,
        position: Position | None = None,
        lost: str = "",
        *,
        sees_payloads: bool = True,
        credential: bytes | None = None,
    ) -> None:
        super().__init__(sees_payloads=sees_payloads, credential=credential)
        self.position = position
        self.lost = lost
        #: Whether it has been told what there is, so that changes are all it needs.
        self.has_begun = False

    def begin_anew(self, why: str) -> None:
        """Forget what it has seen: the listener tells it to look again, and then what there is."""
        self.position, self.lost, self.has_begun = None, why, False

    def _make_room(self) -> None:
        """Drop everything: a change that is missing cannot be told from one that never was."""
        self._events.clear()
        self.begin_anew("slow")


class Watcher(Subscription):
    """A client that watches one task.

    Args:
        task_id: The task's internal id.
        seen: The version of the task that it has seen already, if any.
        sees_payloads: As of every subscription.
        credential: The same.
    """

    def __init__(
        self, task_id: int, seen: str | None = None, *, sees_payloads: bool = True, credential: bytes | None = None
    ) -> None:
        super().__init__(sees_payloads=sees_payloads, credential=credential)
        self.task_id = task_id
        self.seen = seen
