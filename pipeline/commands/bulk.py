"""Do the same to many tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.commands.tasks import check_queue
from pipeline.store import bulk

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.commands.tasks import EnsureLanes
    from pipeline.store.audit import By
    from pipeline.store.bulk import Deed, Told


def act_on_tasks(
    sql: Mapping[str, str],
    cursor: Cursor,
    task_ids: Sequence[str],
    deed: Deed,
    *,
    ensure_lanes: EnsureLanes,
    by: By,
) -> list[Told]:
    """Do something to each of these tasks, on the transaction the cursor has; tell what came of it, in their order.

    One that it cannot be done to does not stand in the way of the others.

    Args:
        sql: The statements.
        cursor: Where to do it.
        task_ids: UUIDs, as the store writes them.
        deed: What to do.
        ensure_lanes: Makes queues and lanes in a transaction of its own.
        by: Whom the audit trail names, and why.

    Raises:
        QueueUnknown: They are to be moved to a queue that does not exist.
    """
    ids = list(dict.fromkeys(task_ids))
    if deed.queue is not None:
        check_queue(sql, cursor, deed.queue)
    if deed.queue is not None or deed.priority is not None:
        ensure_lanes(_new_lanes(bulk.lanes(sql, cursor, ids), deed))
    told = bulk.act(sql, cursor, ids, deed, by)
    return [told[task_id] for task_id in ids]


def _new_lanes(lanes: Sequence[tuple[str, int, bool]], deed: Deed) -> list[tuple[str, int, bool]]:
    """List the lanes that tasks of these lanes come to."""
    if deed.queue is not None:
        return [(deed.queue, priority, is_gated) for _, priority, is_gated in lanes]
    return [(queue, deed.priority or 0, False) for queue, _, _ in lanes]
