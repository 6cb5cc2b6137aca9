"""Statements about workers, their claims and their rescue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.store.audit import By


@dataclass(frozen=True, slots=True)
class WatchedWorker:
    """What a rescuer sees of a worker that should be alive."""

    worker_id: int
    beat: int
    #: How many of its registered database sessions the server still has.
    sessions: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a worker stands among all that beat; alone, unless told otherwise."""

    #: Workers that were registered before it.
    older: int = 0
    #: Other workers of the same queues that could begin a task now.
    others_free: int = 0
    #: Those of them that were registered before it.
    older_free: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane's number means."""

    queue: str
    priority: int


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that runs in a worker."""

    id: int
    #: For how long it has been running.
    seconds: float
    #: In which of the worker's threads, from 1.
    thread: int


def register(  # noqa: PLR0913 - one per column
    sql: Mapping[str, str],
    cursor: Cursor,
    *,
    host: str,
    pid: int,
    threads: int,
    queues: Sequence[str],
    crashes: int,
    beat_seconds: float,
) -> int:
    """Register a worker with the session of this cursor; return its id, new at every start."""
    cursor.execute(sql["own_backend"])
    row = {"host": host, "pid": pid, "threads": threads, "queues": list(queues), "crashes": crashes}
    cursor.execute(sql["register_worker"], row | {"backends": [_value(cursor)], "beat_seconds": beat_seconds})
    value: int = _value(cursor)
    return value


def register_actors(sql: Mapping[str, str], cursor: Cursor, actors: str) -> None:
    """Announce the actors of this process (JSON)."""
    cursor.execute(sql["register_actors"], {"actors": actors})


def register_backend(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> None:
    """Note the cursor's session as one of the worker's."""
    cursor.execute(sql["register_backend"], {"worker": worker_id})


def beat(
    sql: Mapping[str, str],
    cursor: Cursor,
    worker_id: int,
    running: Sequence[RunningTask] | None,
    queues: Iterable[str],
    fresh_seconds: float,
) -> tuple[str | None, Standing, float]:
    """Tell that the worker lives and what runs in it; None for what its master tells.

    Returns:
        ``alive``, or ``draining`` if it shall claim nothing more; None if it was declared dead. Where it stands among
        those that have beaten within ``fresh_seconds``. And what the database's clock shows, in seconds since 1970.
    """
    row = {
        "worker": worker_id,
        "running": None if running is None else [each.id for each in running],
        "seconds": [each.seconds for each in running or ()],
        "threads": [each.thread for each in running or ()],
        "queues": list(queues),
        "fresh_ms": fresh_seconds * 1000,
    }
    cursor.execute(sql["beat_worker"], row)
    told, epoch, *standing = cursor.fetchall()[0]
    return told, Standing(*standing), epoch


def clock(sql: Mapping[str, str], cursor: Cursor) -> float:
    """Read the database's clock: seconds since 1970."""
    cursor.execute(sql["clock"])
    value: float = _value(cursor)
    return value


def tell_running(sql: Mapping[str, str], cursor: Cursor, running: Mapping[int, Sequence[RunningTask]]) -> None:
    """Tell what runs in several workers, by their ids."""
    rows = [
        {
            "worker": worker_id,
            "ids": [each.id for each in tasks],
            "seconds": [each.seconds for each in tasks],
            "threads": [each.thread for each in tasks],
        }
        for worker_id, tasks in running.items()
    ]
    cursor.execute(sql["tell_running"], {"runs": json.dumps(rows)})


def drain(
    sql: Mapping[str, str],
    cursor: Cursor,
    worker_ids: Iterable[int] | None,
    host: str | None,
    by: By,
) -> dict[int, str | None]:
    """Let workers claim nothing more and end; see ``drain_workers_v1``."""
    ids = None if worker_ids is None else list(worker_ids)
    cursor.execute(sql["drain_workers"], {"workers": ids, "host": host, **by.parameters})
    return dict(cursor.fetchall())


def prepare_exchange(sql: Mapping[str, str], cursor: Cursor) -> None:
    """Let the cursor's session parse and plan exchanges once."""
    cursor.execute(sql["prepare_exchange"])


def exchange(
    sql: Mapping[str, str], cursor: Cursor, arguments: Mapping[str, Any], *, is_prepared: bool = False
) -> list[Any]:
    """Write a batch of outcomes and claim; return the header row and one row per claimed run, see ``exchange_v1``."""
    cursor.execute(sql["execute_exchange" if is_prepared else "exchange"], arguments)
    rows: list[Any] = cursor.fetchall()
    return rows


def resume(sql: Mapping[str, str], cursor: Cursor, worker_id: int, known_claims: Iterable[int]) -> int | None:
    """Begin a new session; return its number, None if the worker was declared dead."""
    cursor.execute(sql["resume_worker"], {"worker": worker_id, "known_claims": list(known_claims)})
    value: int | None = _value(cursor)
    return value


def end(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> int | None:
    """End a worker in good order; return how many of its runs wait again."""
    cursor.execute(sql["end_worker"], {"worker": worker_id})
    value: int | None = _value(cursor)
    return value


def end_killed(
    sql: Mapping[str, str], cursor: Cursor, worker_id: int, runs: Iterable[tuple[int, int]], verdict: str
) -> int | None:
    """End a worker whose process was killed because of these runs (task id, run); their next runs end with the verdict.

    Returns how many got it, None if the worker is not alive.
    """
    runs = list(runs)
    ids, numbers = [id for id, _ in runs], [run for _, run in runs]
    cursor.execute(sql["end_killed_worker"], {"worker": worker_id, "ids": ids, "runs": numbers, "verdict": verdict})
    value: int | None = _value(cursor)
    return value


def watch(sql: Mapping[str, str], cursor: Cursor) -> list[WatchedWorker]:
    """List the workers that should be alive."""
    cursor.execute(sql["watch_workers"])
    return [WatchedWorker(*row) for row in cursor.fetchall()]


def rescue(
    sql: Mapping[str, str],
    cursor: Cursor,
    worker: WatchedWorker,
    max_losses: int,
    started: Iterable[int] | None = None,
) -> int | None:
    """Declare a worker dead and take back what it held; None if it beats after all.

    What had begun in it (``started``; None if nobody knows: all of it) counts as lost.
    """
    ids = None if started is None else list(started)
    who = {"worker": worker.worker_id, "beat": worker.beat}
    cursor.execute(sql["rescue_worker"], {**who, "max_losses": max_losses, "started": ids})
    value: int | None = _value(cursor)
    return value


def is_drained(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> bool:
    """Tell whether somebody wanted this worker to end."""
    cursor.execute(sql["is_worker_drained"], {"worker": worker_id})
    return bool(_value(cursor))


def end_backends(sql: Mapping[str, str], cursor: Cursor, worker_id: int) -> int:
    """End the database sessions a stopped worker still has; return how many there were."""
    cursor.execute(sql["end_backends"], {"worker": worker_id})
    value: int = _value(cursor)
    return value


def lanes(sql: Mapping[str, str], cursor: Cursor) -> dict[int, Lane]:
    """Read what the lane numbers mean."""
    cursor.execute(sql["lanes"])
    return {lane_id: Lane(queue, priority) for lane_id, queue, priority in cursor.fetchall()}


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
