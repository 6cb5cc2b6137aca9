"""Many tasks, made ready to be written in one statement."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pipeline.broker.messages import as_json
from pipeline.store import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.context import NewTask, Standing


#: Tasks that are written while the next ones are encoded: few, so that PostgreSQL has something to do soon.
LOT = 500


def in_lots(new: Iterable[NewTask]) -> Iterator[Bulk]:
    """Make several of many tasks, each when it is asked for."""
    rest = iter(new)
    while lot := list(islice(rest, LOT)):
        yield Bulk(lot)


class Bulk:
    """Tasks that are encoded once, however often their statement has to be repeated.

    Most batches are of one actor and differ in their arguments and labels only. These are not written as JSON, which
    the server would have to read three times over, but as lines.
    """

    def __init__(self, new: list[NewTask]) -> None:
        self.tasks = new
        self._alike: tasks.Alike | None = _alike(new)
        self._json: str | None = None

    def write(
        self,
        sql: Mapping[str, str],
        cursor: Cursor,
        *,
        again_after_ms: float | None = None,
        notify: bool = False,
    ) -> Standing:
        """Insert them on the transaction the cursor has; ``again_after_ms`` if they may have been inserted already."""
        if self._alike is not None and again_after_ms is None:
            tasks.enqueue_alike(sql, cursor, self._alike, notify=notify)
            return {}
        if self._json is None:
            self._json = as_json(self.tasks)
        mode = mode_of(self.tasks, again_after_ms)
        return tasks.enqueue_many(sql, cursor, self._json, mode=mode, since_ms=again_after_ms, notify=notify)


def mode_of(new: list[NewTask], again_after_ms: float | None) -> tasks.Mode:
    """Tell what the store has to look for before it inserts."""
    if again_after_ms is not None:
        return "r"
    return "n" if all(task.is_new for task in new) else "u"


def _alike(new: list[NewTask]) -> tasks.Alike | None:
    """Write tasks line by line, if they differ only in their ids, payloads and labels, and nobody knows the ids."""
    first = new[0]
    kind = (first.queue, first.priority, first.actor, first.delay_ms, first.parent)
    has_labels = False
    for task in new:
        if not task.is_new or task.keys is not None:
            return None
        if (task.queue, task.priority, task.actor, task.delay_ms, task.parent) != kind:
            return None
        has_labels = has_labels or task.labels is not None
    payloads = "\n".join([task.payload for task in new])
    if payloads.count("\n") != len(new) - 1:  # an encoder that writes JSON on several lines
        return None
    labels = "\n".join([task.labels or "" for task in new]) if has_labels else None
    return tasks.Alike(*kind, message_ids=",".join([task.message_id for task in new]), payloads=payloads, labels=labels)
