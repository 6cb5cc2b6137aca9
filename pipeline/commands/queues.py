"""Pause and resume queues."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.errors import QueueUnknown
from pipeline.store import queues

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


def pause_queue(
    sql: Mapping[str, str],
    cursor: Cursor,
    queue: str,
    *,
    by: By,
    resume_after: timedelta | None = None,
) -> None:
    """Let nothing be claimed from a queue, on the transaction the cursor has. What runs goes on.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: ``resume_after`` is not above 0.
    """
    if not queues.pause(sql, cursor, queue, by=by, resume_after_ms=pause_ms(resume_after)):
        raise QueueUnknown(queue)


def resume_queue(sql: Mapping[str, str], cursor: Cursor, queue: str, *, by: By) -> None:
    """Let tasks of a queue be claimed again, on the transaction the cursor has; one that is not paused stays so.

    Raises:
        QueueUnknown: There is no such queue.
    """
    if not queues.resume(sql, cursor, queue, by=by):
        raise QueueUnknown(queue)


def pause_ms(resume_after: timedelta | None) -> int | None:
    """Give the length of a pause in milliseconds; None for one without an end.

    Raises:
        ValueError: It is not above 0.
    """
    if resume_after is None:
        return None
    milliseconds = round(resume_after.total_seconds() * 1000)
    if milliseconds <= 0:
        message = f"A pause must take longer than {resume_after}"
        raise ValueError(message)
    return milliseconds
