"""What runs and what is reserved, where many workers hold many tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.store import status
from pipeline.store.status import HeldTask

Rows = Callable[..., list[tuple[Any, ...]]]
Held = Callable[..., list[HeldTask]]

WORKERS, CLAIMED, RUNNING = 200, 1_000, 8
#: Tasks with old ids, so that the index is worth it; they are claimed in batches of 250, of which every other run is over.
FILL = f"""
    INSERT INTO pipeline.task (id, eta, created_at, message_id, lane_id, origin, actor, payload)
    SELECT (extract(epoch FROM clock_timestamp()) * 1000 - 1577836800000)::bigint << 22 | n, now(), now(), gen_random_uuid(), 1, 's', 'work', '{{}}'
      FROM generate_series(1, {WORKERS * CLAIMED}) n;
    INSERT INTO pipeline.worker (host, pid, threads, queues) SELECT 'here', n, {RUNNING}, '{{held}}' FROM generate_series(1, {WORKERS}) n;
    INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas, claimed_at)
    SELECT 1 + b / 4, array_agg(id ORDER BY id), array_agg(1), array_agg(1), array_agg(now()), now() - interval '1 min' + b * interval '1 ms'
      FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / 250 AS b FROM pipeline.task) t GROUP BY b;
    UPDATE pipeline.worker w SET running = c.ids[2:{RUNNING + 1}], running_since = ARRAY(SELECT now() - w.worker_id * interval '1 s' FROM generate_series(1, {RUNNING})),
           running_threads = ARRAY(SELECT generate_series(1, {RUNNING}))
      FROM (SELECT DISTINCT ON (worker_id) * FROM pipeline.claim ORDER BY worker_id, claim_id) c WHERE c.worker_id = w.worker_id;
    INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, worker_id, finished_at)
    SELECT u.id, 1, 1, 's', c.worker_id, now() FROM pipeline.claim c, unnest(c.ids) WITH ORDINALITY u(id, place) WHERE u.place % 2 = 1;
"""


@pytest.fixture
def held(broker: PostgresBroker) -> Held:
    def ask(list_tasks: Callable[..., list[HeldTask]], limit: int = 100) -> list[HeldTask]:
        with broker.pool.connection() as connection, connection.cursor() as cursor:
            return list_tasks(broker.sql, cursor, limit=limit)

    return ask


@pytest.fixture
def crowd(broker: PostgresBroker, rows: Rows) -> None:
    broker.declare_queue("held")
    broker.sender.ensure_lanes([("held", 0)])
    rows(FILL)


def plan(rows: Rows, broker: PostgresBroker, name: str) -> str:
    return "\n".join(line for (line,) in rows("EXPLAIN ANALYZE " + broker.sql[name] % {"limit": 100}))


@pytest.mark.usefixtures("crowd")
@pytest.mark.leaves("worker", "claim")
@pytest.mark.parametrize("is_analyzed", [False, True], ids=["never analyzed", "analyzed"])
def test_what_runs_and_what_is_reserved_is_found_by_indexes(
    broker: PostgresBroker, rows: Rows, held: Held, is_analyzed: bool
) -> None:
    if is_analyzed:
        rows("ANALYZE pipeline.task, pipeline.attempt, pipeline.claim, pipeline.worker")

    started, reserved = held(status.started), held(status.reserved)

    # Half of what was told has ended since.
    assert len(held(status.started, WORKERS * RUNNING)) == WORKERS * RUNNING // 2
    assert [each.worker_id for each in started[:5]] == [WORKERS] * (RUNNING // 2) + [WORKERS - 1]
    assert {each.thread for each in started} == {1, 3, 5, 7}
    assert len(reserved) == 100
    assert {each.worker_id for each in reserved} == {1}
    assert not {each.task_id for each in reserved} & {each.task_id for each in held(status.started, 2000)}
    for name in ("started_tasks", "reserved_tasks"):
        told = plan(rows, broker, name)
        # An empty table, known to be empty, is scanned.
        scans = [line for line in told.splitlines() if "Seq Scan on" in line and "cost=0.00..0.00" not in line]
        assert not [line for line in scans if "task" in line.split(" on ")[1] or "attempt" in line.split(" on ")[1]], (
            told
        )
        began = time.monotonic()
        held(getattr(status, name.removesuffix("_tasks")))
        assert time.monotonic() - began < 0.5


@pytest.mark.usefixtures("crowd")
@pytest.mark.leaves("worker", "claim")
def test_all_that_a_silent_worker_holds_may_run(rows: Rows, held: Held) -> None:
    rows("UPDATE pipeline.worker SET beat_at = now() - interval '16 s' WHERE worker_id = 1")

    started = [each for each in held(status.started, 10_000) if each.worker_id == 1]

    assert len(started) == CLAIMED // 2
    assert len({each.last_seen_at for each in started}) == 1
    assert {each.worker_id for each in held(status.reserved)} == {2}
