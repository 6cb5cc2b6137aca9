"""Let workers end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pipeline.errors import WorkerEnded, WorkerUnknown
from pipeline.store import workers

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By

_DRAINING = "draining"


def drain_workers(
    sql: Mapping[str, str],
    cursor: Cursor,
    worker_ids: Iterable[int] | None = None,
    *,
    host: str | None = None,
    by: By,
) -> list[int]:
    """Let workers claim nothing more, finish their tasks and end, on the transaction the cursor has.

    Args:
        sql: The statements.
        cursor: Where to say it.
        worker_ids: Which; all or none of them. None: whoever is alive, on the host if one is named.
        host: The name of a machine.
        by: Whom the audit trail names, and why.

    Returns:
        The workers that drain now.

    Raises:
        WorkerUnknown: There is no such worker, or none that is alive.
        WorkerEnded: It is not alive any more.
    """
    told = workers.drain(sql, cursor, worker_ids, host, by)
    for worker_id, state in told.items():
        if state is None:
            raise WorkerUnknown(worker_id)
        if state != _DRAINING:
            raise WorkerEnded(worker_id, state)
    if not told:
        raise WorkerUnknown(host=host)
    return sorted(told)
