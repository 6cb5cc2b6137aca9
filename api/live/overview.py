"""What those are told who follow everything: in sum, and the tasks that have changed, up to a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from api.live.changes import Changes, Position, Told, between, since
from api.live.frames import frame
from api.live.subscription import Event, Follower
from pipeline.store import live, metrics

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from api.live.snapshots import Snapshot
    from pipeline.store.live import Look

#: So many tasks are in one event.
_TASKS = 50
#: So many ids of each kind are looked at.
_IDS = 200
#: What waits is counted up to so many in each lane: with 10,000 the count would be most of a look.
_COUNTED = 1_000
#: Tasks have their ids before they are committed. One that is committed later than this is told with its next change.
_OVERLAP_SECONDS = 3.0
#: Who was away for longer is told to look again.
_AWAY = timedelta(minutes=5)

_NOTHING = Changes()


class Overview:
    """Remembers what followers know."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=2)
        self._claims = 0
        self._told = Told()
        self._summary: dict[str, Any] = {}
        self._new_summary: dict[str, Any] = {}
        self._changes = _NOTHING
        self._missed: dict[Follower, Changes] = {}

    def look(self, sql: Mapping[str, str], cursor: Cursor, followers: Collection[Follower]) -> set[int]:
        """Ask what goes on; return the internal ids of the tasks whose states are to be read."""
        before = self._looks[-1] if self._looks else None
        now = _look(sql, cursor, before.at if before else None)
        if before is not None and now.at - before.at > _AWAY:
            before = None
        if before is None:
            self._claims, self._changes = now.claims, _NOTHING
        else:
            self._changes = between(before, now, claims=self._claims)
            self._claims = before.claims
        self._looks.append(now)
        self._missed = self._look_back(sql, cursor, followers)
        self._new_summary = _summary(sql, cursor)
        missed = (changes.ids[:_TASKS] for changes in self._missed.values())
        return set(self._own_ids()).union(*missed)

    def _own_ids(self) -> list[int]:
        return [*self._changes.ids[:_TASKS], *self._told.unfinished(_TASKS)]

    def _look_back(
        self, sql: Mapping[str, str], cursor: Cursor, followers: Collection[Follower]
    ) -> dict[Follower, Changes]:
        """Ask once what all those have missed who come back."""
        now = self._looks[-1]
        found: dict[Follower, Changes] = {}
        for follower in followers:
            position = follower.position
            if position is not None and not timedelta(seconds=-1) < now.at - position.at < _AWAY:
                follower.begin_anew("too old")
        back = {each: each.position for each in followers if not each.has_begun and each.position is not None}
        if back:
            earlier = _look(sql, cursor, min(position.at for position in back.values()))
            found = {follower: since(position, earlier) for follower, position in back.items()}
        return found

    def tell(self, followers: Iterable[Follower], snapshots: Iterable[Snapshot]) -> bool:
        """Tell everybody what is new to him; return whether anything has changed."""
        states = {snapshot.row.id: snapshot for snapshot in snapshots}
        news = self._told.news(states[task_id] for task_id in dict.fromkeys(self._own_ids()) if task_id in states)
        changed = {name: value for name, value in self._new_summary.items() if self._summary.get(name) != value}
        self._summary = self._new_summary
        has_changed = bool(changed or news or not self._changes.are_all)
        event = self._changed(changed, news, self._changes) if has_changed else None
        for follower in followers:
            if not follower.has_begun:
                self._begin(follower, states)
            elif event is not None:
                follower.put(event)
        return has_changed

    def _begin(self, follower: Follower, states: Mapping[int, Snapshot]) -> None:
        """Tell what there is; or, to a client that comes back, what it has missed."""
        follower.has_begun = True  # first: what does not fit in the queue takes it back
        if follower in self._missed:
            changes = self._missed[follower]
            missed = [states[task_id] for task_id in changes.ids[:_TASKS] if task_id in states]
            follower.put(self._changed(self._summary, missed, changes))
            return
        if follower.lost:
            follower.put(Event(frame("resync", {"reason": follower.lost}, self._id)))
            follower.lost = ""
        follower.put(Event(frame("snapshot", {"at": self._looks[-1].at, **self._summary}, self._id)))

    def _changed(self, summary: Mapping[str, Any], tasks: Collection[Snapshot], changes: Changes) -> Event:
        shown = [snapshot.listed for snapshot in list(tasks)[:_TASKS]]
        more = not changes.are_all or len(changes.ids) > _TASKS or len(tasks) > _TASKS
        data = {"at": self._looks[-1].at, **summary, "tasks": shown, "more": more}
        return Event(frame("changed", data, self._id))

    @property
    def _id(self) -> str:
        """Say how far this is: with the claims of the look before, since some may have been under way at this one."""
        now = self._looks[-1]
        return str(Position(now.at, self._claims, len(now.held)))


def _look(sql: Mapping[str, str], cursor: Cursor, at: Any) -> Look:
    return live.look(sql, cursor, since=at, overlap_seconds=_OVERLAP_SECONDS, most=_IDS)


def _summary(sql: Mapping[str, str], cursor: Cursor) -> dict[str, Any]:
    """Ask for what is told in sum."""
    queues = [asdict(queue) for queue in live.queues(sql, cursor, most=_COUNTED)]
    fleet = metrics.fleet(sql, cursor)
    counted = ("alive", "draining", "stopped", "dead", "threads", "running")
    return {"queues": queues, "workers": {name: getattr(fleet, name) for name in counted}}
